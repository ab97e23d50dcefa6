/// What a conversion weighs the errors of weights by: how strongly each input column of a linear layer
/// is used while the model reads a text.
public struct Calibration: Sendable {
  /// Where that comes from.
  public enum Source: Sendable {
    /// All columns count alike, and there are no column scales.
    case none
    /// The text that the project carries for this purpose.
    case bundled
    /// A text of the user's.
    case text(String)
    /// What an earlier calibration of the same checkpoint saw.
    case statistics(ImportanceStatistics)
  }

  public let source: Source
  /// Tokens of a text that are used at most, in windows spread evenly over it.
  public let tokenCount: Int

  /// With 2,560, in shorter windows, the KL divergence of `q4` was 4 % larger (one SmolLM2), and a
  /// conversion without VNNI took a fifth less time.
  public static let defaultTokenCount = 4096

  /// Uncalibrated.
  public static let none = Calibration(.none)
  /// The project's own text.
  public static let bundled = Calibration(.bundled)

  /// - Precondition: `tokenCount` is positive.
  public init(_ source: Source, tokenCount: Int = Calibration.defaultTokenCount) {
    precondition(tokenCount > 0)
    self.source = source
    self.tokenCount = tokenCount
  }

  /// The project's own text: chat, code, prose, lists, tables, mathematics, several languages.
  static let bundledText = String(decoding: PackageResources.calibration_txt, as: UTF8.self)
}

/// Whether, and by what, a conversion was calibrated.
public enum CalibrationOutcome: Sendable, Equatable {
  /// Nobody asked for it, or the recipe quantizes nothing.
  case unwanted
  /// It was asked for and cannot be had; why, as a clause.
  case impossible(reason: String)
  /// By what; of how many columns nothing was learned, by name of the input; and how many experts of a
  /// layer saw few tokens, by ``ImportanceStatistics/rareExperts``.
  case done(origin: String, idleColumns: [String: Int], rareExperts: [String: Int])
}
