public import TensorCore

/// Column scales: factors that move a part of what distinguishes the input columns of a matrix from the
/// activations, where an int8 group cannot hold it, into the weights, where block scales can.
///
/// The activation is multiplied by c = importance^(−exponent / 2), normalized to geometric mean 1, and
/// the weights are divided by it.
public enum ColumnScaling {
  /// What is tried. A search that finds nothing better leaves the columns as they are.
  public static let exponents = [0, 0.15, 0.3, 0.45, 0.6]

  /// The column scales of an exponent: the same bits on every machine.
  ///
  /// Columns that were hardly ever active count as ones at the floor of importance, so that no scale
  /// leaves the range in which weights can follow it.
  ///
  /// - Parameter importance: finite, not negative.
  public static func scales(importance: [Float], exponent: Double) -> ColumnScales {
    let mean = importance.reduce(0) { $0 + Double($1) } / Double(max(importance.count, 1))
    guard mean > 0 else { return ColumnScales([Float](repeating: 1, count: importance.count)) }
    let logarithms = importance.map {
      -0.5 * exponent * PortableMath.log(max(Double($0) / mean, ColumnFactors.importanceFloor))
    }
    let center = logarithms.reduce(0, +) / Double(importance.count)
    return ColumnScales(logarithms.map { Float(PortableMath.exp($0 - center)) })
  }

  /// Columns at the floor of importance.
  ///
  /// - Parameter importance: finite, not negative.
  public static func idleColumnCount(importance: [Float]) -> Int {
    let mean = importance.reduce(0) { $0 + Double($1) } / Double(max(importance.count, 1))
    return importance.count { Double($0) <= mean * ColumnFactors.importanceFloor }
  }

  /// The exponent with which matrices that read one input err least on that input, activations
  /// quantized too; found on a sample of their rows.
  ///
  /// - Parameters:
  ///   - matrices: of as many columns each as `importance` has values, in quantized encodings.
  ///   - inputs: some tokens' features, row-major, finite.
  /// - Returns: one of ``exponents``.
  /// - Throws: ``QuantizationError``, also for weights of the sample that are not finite.
  public static func exponent(
    for matrices: [(source: MatrixView, encoding: BlockEncoding)], importance: [Float],
    inputs: [Float], kernels: Kernels, pool: WorkerPool
  ) throws(QuantizationError) -> Double {
    let samples = matrices.map { OutputSample($0.source, $0.encoding, inputs: inputs) }
    var exact: [[Double]] = []
    for sample in samples {
      exact.append(try sample.outputs(as: .f32, nil, nil, kernels: kernels, pool: pool))
    }
    var best = (exponent: 0.0, error: Double.infinity)
    for exponent in exponents {
      let scales = scales(importance: importance, exponent: exponent)
      var error = 0.0
      for (sample, exact) in zip(samples, exact) {
        let found = try sample.outputs(
          as: sample.encoding, importance, scales, kernels: kernels, pool: pool)
        let squares = zip(found, exact).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
        let energy = exact.reduce(0) { $0 + $1 * $1 }
        if energy > 0 { error += squares / energy }
      }
      if error < best.error { best = (exponent, error) }
    }
    return best.exponent
  }
}

/// Some rows of a matrix, and what they make of some tokens.
private struct OutputSample {
  let encoding: BlockEncoding
  private let rows: AlignedBuffer
  private let rowCount: Int
  private let columns: Int
  private let inputs: [Float]

  private static let maximumRowCount = 64

  /// Rows at equal distances.
  init(_ source: MatrixView, _ encoding: BlockEncoding, inputs: [Float]) {
    self.encoding = encoding
    self.inputs = inputs
    columns = source.columns
    rowCount = min(source.rows, Self.maximumRowCount)
    rows = AlignedBuffer(byteCount: rowCount * columns * 4)
    for row in 0..<rowCount {
      source.copyRow(row * source.rows / rowCount, into: rows.floats + row * columns)
    }
  }

  /// Outputs of every token, those of one row after the other; quantized encodings have quantized
  /// activations.
  func outputs(
    as encoding: BlockEncoding, _ importance: [Float]?, _ scales: ColumnScales?, kernels: Kernels,
    pool: WorkerPool
  ) throws(QuantizationError) -> [Double] {
    let view = MatrixView(rows.bytes, elementType: .f32, rows: rowCount, columns: columns)
    let matrix = try Quantizer.encode(
      view, as: encoding, importance: importance, columnScales: scales,
      instructionSet: kernels.instructionSet, fitsCodebook: false, pool: pool
    ).matrix
    let tokenCount = inputs.count / columns
    let activations = Activations(maximumTokens: tokenCount, maximumColumns: columns)
    let stride = matrix.geometry.paddedRows
    let output = AlignedBuffer(byteCount: tokenCount * stride * 4)
    let isLoaded = inputs.withUnsafeBufferPointer { inputs in
      (try? activations.load(
        inputs.baseAddress!, tokenCount: tokenCount, inputStride: columns, for: matrix,
        precision: .int8, kernels: kernels, pool: pool)) != nil
    }
    // Scales so extreme that a product is infinite are no candidates.
    guard isLoaded else { return [Double](repeating: .infinity, count: tokenCount * rowCount) }
    kernels.multiply(matrix, activations, output: output.floats, outputStride: stride, pool: pool)
    return (0..<rowCount).flatMap { row in
      (0..<tokenCount).map { Double(output.floats[$0 * stride + row]) }
    }
  }
}
