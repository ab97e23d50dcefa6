import TensorCore

/// Scratch memory for sixteen rows on their way into a quantized encoding.
///
/// Rows are normalized by a power of two, which is exact, so that squared weights neither overflow
/// nor underflow, however large or small the weights are.
struct Panel {
  private var loader: PanelLoader
  private let kernels: QuantizationKernels
  private let factors: ColumnFactors
  private let encoding: BlockEncoding
  private let values: AlignedBuffer
  /// The scale of each (block, row) in units of normalized weights, before it is put on a grid.
  private let scales: AlignedBuffer
  // One for each row:
  private let normalizers = AlignedBuffer(byteCount: 16 * 4)
  private let largestScales = AlignedBuffer(byteCount: 16 * 4)
  private let units = AlignedBuffer(byteCount: 16 * 4)

  init(
    _ geometry: PanelGeometry, _ encoding: BlockEncoding, factors: ColumnFactors,
    kernels: QuantizationKernels
  ) {
    loader = PanelLoader(geometry, kernels: kernels)
    self.kernels = kernels
    self.factors = factors
    self.encoding = encoding
    values = AlignedBuffer(byteCount: 16 * geometry.paddedColumns * 4)
    scales = AlignedBuffer(
      byteCount: encoding.hasCodebook
        ? geometry.byteCount(of: .blockScales, in: encoding) / geometry.panelCount * 4 : 0)
  }

  private var view: QuantizationKernels.Panel {
    QuantizationKernels.Panel(
      values: values.floats, columnScales: factors.scales?.pointer,
      inverseColumnScales: factors.inverseScales.map { UnsafePointer($0.floats) },
      weights: factors.weights.floats, normalizers: normalizers.floats,
      columns: loader.geometry.columns, paddedColumns: loader.geometry.paddedColumns,
      blockSize: encoding.blockSize!)
  }

  /// Loads panel `index` of `source`.
  ///
  /// - Returns: the place of the first weight that is not finite, nil if all are.
  mutating func load(_ index: Int, of source: MatrixView) -> (row: Int, column: Int)? {
    let place = loader.load(
      index, of: source, inverseColumnScales: factors.inverseScales.map { .init($0.floats) },
      values: values.floats)
    if place != nil { return place }
    for row in 0..<16 {
      let largest = Float(bitPattern: loader.largest[row])
      let exponent = largest == 0 ? 0 : Int(largest.exponent)
      normalizers.floats[row] = Float(
        sign: .plus, exponent: min(max(-exponent, -127), 127), significand: 1)
      // 8-bit codes reach the largest weight with the largest block scale.
      largestScales.floats[row] = largest * normalizers.floats[row] / 127
    }
    return nil
  }

  /// Adds this panel's share to the sums of a codebook fit, after choosing scales for `codebook`.
  func fit(_ codebook: Codebook, into sums: inout CodebookSums) {
    kernels.scalesQ4(
      view, codebook: codebook.entries, scales: scales.floats, largest: largestScales.floats)
    kernels.fitQ4(
      view, codebook: codebook.entries, scales: scales.floats,
      numerators: &sums.numerators, denominators: &sums.denominators)
  }

  /// Chooses row scales, block scales and codes, and writes them.
  func encode(
    codebook: Codebook?, rowScales: UnsafeMutablePointer<Float>,
    into output: QuantizationKernels.Output
  ) {
    if let codebook {
      kernels.scalesQ4(
        view, codebook: codebook.entries, scales: scales.floats, largest: largestScales.floats)
    }
    for row in 0..<16 {
      rowScales[row] = rowScale(row)
      units.floats[row] = Float(Double(rowScales[row]) * Double(normalizers.floats[row]))
    }
    if let codebook {
      kernels.encodeQ4(
        view, codebook: codebook.entries, scales: scales.floats, units: units.floats,
        rowScales: rowScales, into: output)
    } else {
      kernels.encodeQ8(view, units: units.floats, rowScales: rowScales, into: output)
    }
  }

  /// The row scale with which the largest block scale of a row is ±127: the finest grid that
  /// reaches it.
  ///
  /// Not below the smallest float32, and so that no weight can decode to an infinity.
  private func rowScale(_ row: Int) -> Float {
    let largest = largestScales.floats[row]
    if largest == 0 { return 0 }
    let ideal = Float(Double(largest) / Double(normalizers.floats[row]) / (127 * 127))
    let limit = Float.greatestFiniteMagnitude / (128 * 128 * 128) / factors.largestScale
    return min(max(ideal, .leastNonzeroMagnitude), limit)
  }
}
