public import ModelFiles
import TensorCore
import Tokenization

/// What a calibration comes to for one checkpoint, before any weight is read.
enum PreparedCalibration {
  /// Where importance comes from.
  enum Source {
    case tokens(CalibrationTokens)
    case statistics(ImportanceStatistics)

    /// What slabs record of it.
    var origin: String {
      switch self {
      case .tokens(let tokens): tokens.origin
      case .statistics(let statistics): statistics.origin
      }
    }
  }

  case source(Source)
  case unwanted
  /// It cannot be had; why, as a clause.
  case impossible(reason: String)

  /// - Throws: ``CalibrationError/emptyText``,
  ///   ``CalibrationError/statistics(path:reason:)`` for those of another model.
  init(_ calibration: Calibration, of checkpoint: Checkpoint) throws(CalibrationError) {
    let text: String
    switch calibration.source {
    case .none:
      self = .unwanted
      return
    case .statistics(let statistics):
      try statistics.check(checkpoint.configuration)
      self = .source(.statistics(statistics))
      return
    case .bundled: text = Calibration.bundledText
    case .text(let given): text = given
    }
    guard let json = checkpoint.assets.first(where: { $0.name == "tokenizer.json" })?.bytes else {
      self = .impossible(reason: "the checkpoint has no tokenizer.json")
      return
    }
    let ids: [TokenID]
    do {
      ids = try Tokenizer(json: json).encode(text)
    } catch {
      self = .impossible(reason: "its tokenizer.json cannot be executed")
      return
    }
    guard !ids.isEmpty else { throw .emptyText }
    guard ids.allSatisfy({ 0 <= $0 && $0 < checkpoint.configuration.vocabularySize }) else {
      self = .impossible(reason: "its tokenizer gives ids that the embedding has no rows for")
      return
    }
    self = .source(
      .tokens(
        CalibrationTokens(
          ids, atMost: calibration.tokenCount,
          contextLength: checkpoint.configuration.contextLength)))
  }
}

extension PreparedCalibration {
  /// What slabs record; nil for a conversion without calibration.
  var origin: String? {
    if case .source(let source) = self { source.origin } else { nil }
  }

  /// What became of it.
  ///
  /// - Parameter calibrator: after the last step; nil for a conversion without calibration.
  func outcome(_ calibrator: Calibrator?) -> CalibrationOutcome {
    switch self {
    case .unwanted: .unwanted
    case .impossible(let reason): .impossible(reason: reason)
    case .source(let source):
      .done(
        origin: source.origin, idleColumns: calibrator?.statistics.idleColumns ?? [:],
        rareExperts: calibrator?.statistics.rareExperts ?? [:])
    }
  }
}

extension Calibration {
  /// Why a checkpoint would be converted without it, as a clause; nil where it can be had.
  ///
  /// - Throws: ``CalibrationError``, as the conversion would.
  public func obstacle(of checkpoint: Checkpoint) throws(CalibrationError) -> String? {
    guard case .impossible(let reason) = try PreparedCalibration(self, of: checkpoint) else {
      return nil
    }
    return reason
  }
}
