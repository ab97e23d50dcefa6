import TensorCore

/// A mean over tokens and how far it may be from the mean over all text of this kind.
public struct Estimate: Sendable, Equatable {
  /// Over all tokens.
  public let mean: Double
  /// Standard error of the mean with every token independent of the others, as llama.cpp gives it.
  /// Tokens of a window are not, so it is often too small.
  public let standardError: Double
  /// Standard error of the mean from the spread between windows; nil with fewer than two.
  public let windowStandardError: Double?

  /// - Parameter windowLength: how many consecutive values are of one window; divides their number.
  init(_ values: [Double], windowLength: Int) {
    (mean, standardError) = Self.meanAndError(values)
    let windows = Self.windowMeans(values, windowLength: windowLength)
    windowStandardError = windows.count < 2 ? nil : Self.meanAndError(windows).error
  }

  /// The mean of each window.
  static func windowMeans(_ values: [Double], windowLength: Int) -> [Double] {
    stride(from: 0, to: values.count, by: windowLength).map { start in
      values[start..<start + windowLength].reduce(0, +) / Double(windowLength)
    }
  }

  /// Zero, and without error, for no values.
  private static func meanAndError(_ values: [Double]) -> (mean: Double, error: Double) {
    let count = Double(values.count)
    if values.isEmpty { return (0, 0) }
    let mean = values.reduce(0, +) / count
    let squares = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    return (mean, values.count < 2 ? 0 : (squares / (count - 1) / count).squareRoot())
  }
}

extension [Double] {
  /// Of sorted values, the smallest that at least `percent` % of them do not exceed (nearest rank);
  /// 0 for none.
  func percentile(_ percent: Int) -> Double {
    isEmpty ? 0 : self[Swift.max(1, (count * percent + 99) / 100) - 1]
  }
}
