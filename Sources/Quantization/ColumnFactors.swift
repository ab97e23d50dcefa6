import TensorCore

/// What quantization knows about the columns of a matrix.
struct ColumnFactors: @unchecked Sendable {  // immutable after init
  /// Factors of squared errors, mean 1, zero in padding.
  let weights: AlignedBuffer
  let scales: ColumnScales?
  /// Reciprocals of the column scales, zero in padding.
  let inverseScales: AlignedBuffer?
  let largestScale: Float

  /// The smallest importance that counts, as a fraction of the mean: a column that calibration
  /// never saw active still has to come out as something near its weights.
  static let importanceFloor = 1e-4
  /// Keeps sums of weighted squares far from underflow.
  private static let weightFloor = 1e-12

  init(
    _ geometry: PanelGeometry, importance: [Float]?, scales: ColumnScales?
  ) throws(QuantizationError) {
    let columns = geometry.columns
    if let importance, importance.count != columns {
      throw .importanceCount(expected: columns, found: importance.count)
    }
    if let scales, scales.columns != columns {
      throw .columnScaleCount(expected: columns, found: scales.columns)
    }
    var products = [Double](repeating: 1, count: columns)
    if let importance {
      for (column, value) in importance.enumerated() {
        guard value.isFinite, value >= 0 else {
          throw .invalidImportance(column: column, value: value)
        }
        products[column] = Double(value)
      }
      let mean = products.reduce(0, +) / Double(columns)
      for column in products.indices {
        products[column] = mean > 0 ? max(products[column] / mean, Self.importanceFloor) : 1
      }
    }
    var largestScale: Float = 1
    var inverseScales: AlignedBuffer?
    if let scales {
      let inverses = AlignedBuffer(byteCount: geometry.paddedColumns * 4)
      for column in 0..<columns {
        let scale = scales.pointer[column]
        guard scale >= 0x1p-126, scale <= 0x1p126 else {
          throw .invalidColumnScale(column: column, value: scale)
        }
        inverses.floats[column] = 1 / scale
        largestScale = max(largestScale, scale)
        // An error in units of the codes counts as much as the scale multiplies it.
        products[column] *= Double(scale) * Double(scale)
      }
      inverseScales = inverses
    }
    weights = AlignedBuffer(byteCount: geometry.paddedColumns * 4)
    if importance == nil && scales == nil {
      weights.floats.update(repeating: 1, count: columns)
    } else {
      let mean = products.reduce(0, +) / Double(columns)
      for column in 0..<columns {
        weights.floats[column] = Float(max(products[column] / mean, Self.weightFloor))
      }
    }
    self.scales = scales
    self.inverseScales = inverseScales
    self.largestScale = largestScale
  }
}
