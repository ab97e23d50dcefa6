public import ModelFiles
public import TensorCore

/// A slab of 8-bit layers as a checkpoint of compressed-tensors, which transformers loads and vLLM
/// serves: signed bytes in groups of 32 columns, each with a positive bfloat16 scale.
///
/// The format is "pack-quantized": of a linear layer `weight_packed`, four columns in an int32,
/// `weight_scale` and `weight_shape`. 32 columns are the smallest group that vLLM's kernels take.
public enum CompressedTensorsExport {
  /// What writing did to the slab's weights.
  public struct Outcome: Sendable, Equatable {
    /// Of weights and scales.
    public internal(set) var byteCount = 0
    /// Of the weights of experts, which are bfloat16, among them.
    public internal(set) var expertByteCount = 0
    /// Of all weights against the slab's dequantized ones.
    public internal(set) var normalizedMeanSquaredError = 0.0
    /// The tensor that differs most, and by how much.
    public internal(set) var worstTensor = ""
    public internal(set) var worstError = -1.0
  }

  /// Writes the directory, which appears when it is complete. Holds one tensor of the slab in memory,
  /// and checks every digest.
  ///
  /// - Parameters:
  ///   - directory: must not exist.
  ///   - maximumShardByteCount: bytes of weights in a file; a larger tensor has one of its own.
  ///   - progress: called with the elements that are written, and those of all tensors.
  ///   - isCancelled: asked now and then; once true, nothing is left and `CancellationError` thrown.
  /// - Throws: ``ExportError``, `JSONError`, `SlabError`, `FileError`, `CancellationError`.
  @discardableResult
  public static func write(
    _ slab: Slab, to directory: String, maximumShardByteCount: Int = 5_000_000_000,
    pool: WorkerPool, progress: @escaping (_ done: Int, _ total: Int) -> Void = { _, _ in },
    isCancelled: @escaping () -> Bool = { false }
  ) throws -> Outcome {
    let rows = try SlabRows(slab, pool: pool, progress: progress, isCancelled: isCancelled)
    let plan = try CompressedTensorsPlan(slab, rows.tensors)
    let files = rows.tensors.flatMap { plan.files(of: $0) }
    let writer = try CheckpointWriter(
      directory: directory, tensors: files, assets: try plan.assets(of: slab),
      maximumShardByteCount: maximumShardByteCount)
    defer { writer.close() }
    var outcome = Outcome()
    var total = CompressedTensorsRow.Squares()
    for tensor in rows.tensors {
      let start = outcome.byteCount
      let squares = try write(tensor, plan.row(of: tensor), of: rows) {
        try writer.append(bytes: $0)
        outcome.byteCount += $0.count
      }
      if TensorRole(tensorName: tensor.name)?.isOfExperts == true {
        outcome.expertByteCount += outcome.byteCount - start
      }
      total.add(squares)
      if squares.normalizedError > outcome.worstError {
        outcome.worstTensor = tensor.name
        outcome.worstError = squares.normalizedError
      }
    }
    try writer.finish()
    outcome.normalizedMeanSquaredError = total.normalizedError
    return outcome
  }

  /// Elements of a tensor come first, then its scales, then its shape.
  private static func write(
    _ tensor: SlabTensor, _ row: CompressedTensorsRow, of rows: SlabRows,
    _ body: (UnsafeRawBufferPointer) throws -> Void
  ) throws -> CompressedTensorsRow.Squares {
    var squares = CompressedTensorsRow.Squares()
    var scales: [UInt8] = []
    scales.reserveCapacity(tensor.elementCount / row.columns * row.scaleByteCount)
    try rows.encode(
      tensor, rowByteCount: row.byteCount, type: row.isQuantized ? "int8 with a scale" : "bf16",
      with: row.encode
    ) { records in
      let count = records.count / row.byteCount
      let elements = AlignedBuffer(byteCount: count * row.elementByteCount)
      for index in 0..<count {
        let record = records.baseAddress! + index * row.byteCount
        (elements.base + index * row.elementByteCount)
          .copyMemory(from: record, byteCount: row.elementByteCount)
        scales += UnsafeRawBufferPointer(
          start: record + row.elementByteCount, count: row.scaleByteCount)
        squares.add(row.squares(of: record))
      }
      try body(elements.bytes)
    }
    if row.isQuantized {
      try scales.withUnsafeBytes(body)
      try tensor.shape.map { Int64($0).littleEndian }.withUnsafeBytes(body)
    }
    return squares
  }
}
