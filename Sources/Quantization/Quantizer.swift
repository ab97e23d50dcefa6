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
    let (weights, statistics) = try encode(
      [source], as: encoding, importance: importance.map { [$0] } ?? [],
      columnScales: columnScales, pool: pool, isCancelled: isCancelled)
    return (weights.matrices[0], statistics)
  }

  /// Encodes the matrices of experts, each by itself with a codebook of its own, as one tensor; see
  /// ``encode(_:as:importance:columnScales:pool:isCancelled:)``.
  ///
  /// - Parameters:
  ///   - sources: of one shape.
  ///   - importance: one for each matrix, or none.
  /// - Returns: the tensor, and what encoding did to all of it. Rows in errors are counted through all
  ///   matrices.
  public static func encode(
    _ sources: [MatrixView], as encoding: BlockEncoding, importance: [[Float]] = [],
    columnScales: ColumnScales? = nil, pool: WorkerPool,
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) throws(QuantizationError) -> (weights: WeightTensor, statistics: ErrorStatistics) {
    let instructionSet: InstructionSet
    do { instructionSet = try .selected() } catch { throw .instructionSet(error) }
    return try encode(
      sources, as: encoding, importance: importance, columnScales: columnScales,
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
    let (weights, statistics) = try encode(
      [source], as: encoding, importance: importance.map { [$0] } ?? [],
      columnScales: columnScales, instructionSet: instructionSet, fitsCodebook: fitsCodebook,
      pool: pool, isCancelled: isCancelled)
    return (weights.matrices[0], statistics)
  }

  private static func encode(
    _ sources: [MatrixView], as encoding: BlockEncoding, importance: [[Float]],
    columnScales: ColumnScales?, instructionSet: InstructionSet, fitsCodebook: Bool = true,
    pool: WorkerPool, isCancelled: @escaping @Sendable () -> Bool
  ) throws(QuantizationError) -> (weights: WeightTensor, statistics: ErrorStatistics) {
    let (rows, columns) = (sources[0].rows, sources[0].columns)
    precondition(sources.allSatisfy { $0.rows == rows && $0.columns == columns })
    precondition(importance.isEmpty || importance.count == sources.count)
    guard let geometry = PanelGeometry(rows: rows, columns: columns),
      let form = MatrixForm(count: sources.count, geometry: geometry)
    else { throw .unsupportedShape(rows: rows, columns: columns) }
    if columnScales != nil, !encoding.isQuantized { throw .columnScalesNotSupported(encoding) }
    let kernels = QuantizationKernels(instructionSet)
    var streams = EncodedStreams(form, encoding, Cancellation(isCancelled))
    for (index, source) in sources.enumerated() {
      streams.matrix = index
      guard encoding.isQuantized else {
        try UnquantizedEncoder(source: source, kernels: kernels, streams: streams).encode(
          pool: pool)
        continue
      }
      let factors = try ColumnFactors(
        geometry, importance: importance.isEmpty ? nil : importance[index], scales: columnScales)
      try BlockEncoder(source: source, factors: factors, kernels: kernels, streams: streams)
        .encode(fitsCodebook: fitsCodebook, pool: pool)
    }
    return (
      streams.tensor(columnScales: columnScales),
      encoding == .f32
        ? .lossless
        : streams.statistics(isWeighted: encoding.isQuantized && !importance.isEmpty)
    )
  }
}
