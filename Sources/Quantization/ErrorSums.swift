import TensorCore

/// Sums over the rows of a matrix, each row added up in column order.
struct ErrorSums {
  /// Doubles for each panel: seven sums of sixteen rows.
  static let perPanel = 7 * 16

  private let buffer: AlignedBuffer
  private let panelCount: Int

  init(panelCount: Int) {
    buffer = AlignedBuffer(byteCount: panelCount * Self.perPanel * 8)
    self.panelCount = panelCount
  }

  /// Where the sums of a panel go; workers write different panels.
  func sums(ofPanel panel: Int) -> UnsafeMutablePointer<Double> {
    buffer.base.assumingMemoryBound(to: Double.self) + panel * Self.perPanel
  }

  /// The figures of the matrix, rows added up in order.
  /// - Parameter isWeighted: whether encoding went by an importance.
  func statistics(isWeighted: Bool = false) -> ErrorStatistics {
    var totals = [Double](repeating: 0, count: 4)
    var (weightedError, weighted) = (0.0, 0.0)
    var largest = 0.0
    for panel in 0..<panelCount {
      let sums = sums(ofPanel: panel)
      for row in 0..<16 {
        for kind in 0..<4 { totals[kind] += sums[kind * 16 + row] }
        largest = max(largest, sums[4 * 16 + row])
        weightedError += sums[5 * 16 + row]
        weighted += sums[6 * 16 + row]
      }
    }
    let (error, original, product, decoded) = (totals[0], totals[1], totals[2], totals[3])
    var lossless = ErrorStatistics.lossless
    if isWeighted { lossless.weightedError = 0 }
    if original == 0 { return lossless }
    let norm = (original * decoded).squareRoot()
    return ErrorStatistics(
      normalizedMeanSquaredError: error / original, maximumAbsoluteError: largest,
      cosineSimilarity: norm > 0 ? product / norm : 0,
      weightedError: isWeighted ? (weighted > 0 ? weightedError / weighted : 0) : nil)
  }
}

extension ErrorStatistics {
  static let lossless = ErrorStatistics(
    normalizedMeanSquaredError: 0, maximumAbsoluteError: 0, cosineSimilarity: 1)
}
