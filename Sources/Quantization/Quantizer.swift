public import TensorCore

/// Encodes matrices of a checkpoint.
public enum Quantizer {
  /// Encodes `source` in layout `panel16`.
  ///
  /// Quantized encodings minimize the squared error of the weights, each column's weighted by its
  /// importance: for every block a scale of either sign is searched among multiples of the largest
  /// weight, refitted by least squares and put on the grid; the codebook of a 4-bit encoding is
  /// fitted to a sample of the rows. `bf16` rounds to nearest even. The result is the same, bit by
  /// bit, for any number of threads and on any instruction set.
  ///
  /// - Parameters:
  ///   - source: `rows` × `columns` weights.
  ///   - importance: one factor for each column, typically the mean square of the activations that
  ///     it meets; zeros are raised to a small floor. Nil weighs all alike. Unquantized encodings
  ///     ignore it.
  ///   - columnScales: divides the weights before they are encoded; decoding multiplies by it.
  ///     Only for quantized encodings.
  ///   - isCancelled: asked before every sixteen rows, on any thread; once true, encoding ends with
  ///     ``QuantizationError/cancelled``.
  /// - Returns: the encoded matrix, and what encoding did to it, measured on the values that
  ///   ``Reference/dequantize(_:row:column:)`` gives.
  public static func encode(
    _ source: MatrixView, as encoding: BlockEncoding, importance: [Float]? = nil,
    columnScales: ColumnScales? = nil, pool: WorkerPool,
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) throws(QuantizationError) -> (matrix: WeightMatrix, statistics: ErrorStatistics) {
    let instructionSet: InstructionSet
    do { instructionSet = try .selected() } catch { throw .instructionSet(error) }
    return try encode(
      source, as: encoding, importance: importance, columnScales: columnScales,
      instructionSet: instructionSet, pool: pool, isCancelled: isCancelled)
  }

  /// As above, with the kernels of an instruction set that this machine has.
  ///
  /// - Parameter fitsCodebook: false for the codebook of normal weights, which is much quicker.
  static func encode(
    _ source: MatrixView, as encoding: BlockEncoding, importance: [Float]?,
    columnScales: ColumnScales?, instructionSet: InstructionSet, fitsCodebook: Bool = true,
    pool: WorkerPool, isCancelled: @escaping @Sendable () -> Bool = { false }
  ) throws(QuantizationError) -> (matrix: WeightMatrix, statistics: ErrorStatistics) {
    guard let geometry = PanelGeometry(rows: source.rows, columns: source.columns) else {
      throw .unsupportedShape(rows: source.rows, columns: source.columns)
    }
    let kernels = QuantizationKernels(instructionSet)
    let streams = EncodedStreams(geometry, encoding, Cancellation(isCancelled))
    guard encoding.isQuantized else {
      if columnScales != nil { throw .columnScalesNotSupported(encoding) }
      return try UnquantizedEncoder(source: source, kernels: kernels, streams: streams).encode(
        pool: pool)
    }
    let factors = try ColumnFactors(geometry, importance: importance, scales: columnScales)
    return try BlockEncoder(source: source, factors: factors, kernels: kernels, streams: streams)
      .encode(fitsCodebook: fitsCodebook, pool: pool)
  }
}
