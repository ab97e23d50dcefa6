import ArgumentParser
import Conversion

/// What errors of weights are weighed by.
struct CalibrationOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "What the model reads to find out which weights matter: a text file; statistics that `quarry "
        + "calibrate` wrote (.safetensors); or none (default: a text that comes with quarry).",
      valueName: "none|file"),
    completion: .file())
  var calibration: String?
  @Option(parsing: .unconditional, help: "Tokens of the text to read at most.")
  var calibrationTokens = Calibration.defaultTokenCount

  func validate() throws {
    if !(1...1 << 20).contains(calibrationTokens) {
      throw ValidationError(
        "--calibration-tokens must be from 1 to \(1 << 20), not \(calibrationTokens).")
    }
  }

  /// Reads the file that is named.
  func load() throws -> Calibration {
    switch calibration {
    case nil: Calibration(.bundled, tokenCount: calibrationTokens)
    case "none": .none
    case .some(let path) where path.hasSuffix(".safetensors"):
      Calibration(.statistics(try ImportanceStatistics(path: path)))
    case .some(let path):
      Calibration(.text(try InputFiles.readText(path)), tokenCount: calibrationTokens)
    }
  }

  /// Says what was not as one would expect.
  static func warn(_ outcome: CalibrationOutcome) {
    switch outcome {
    case .unwanted: break
    case .impossible(let reason):
      Console.warn("no calibration, which costs quality at 4 bits: \(reason)")
    case .done(_, let idle, let rare):
      if let worst = worst(idle) {
        Console.warn(
          "the calibration text left \(idle.values.reduce(0, +)) input columns idle, "
            + "\(worst.value) of them in \(worst.key): their weights count little")
      }
      if let worst = worst(rare) {
        Console.warn(
          "\(rare.values.reduce(0, +)) experts saw few tokens of the calibration text, "
            + "\(worst.value) of them in \(worst.key): they are weighed much as their layer's input"
        )
      }
    }
  }

  private static func worst(_ counts: [String: Int]) -> (key: String, value: Int)? {
    counts.max { ($0.value, $1.key) < ($1.value, $0.key) }
  }
}
