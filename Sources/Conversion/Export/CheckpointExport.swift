public import ModelFiles
public import TensorCore

/// A slab as a checkpoint in the published form, for other tools: weights dequantized with their column
/// scales, configuration and tokenizer as they came.
public enum CheckpointExport {
  /// Element types that weights are written in.
  public static let types = [RowEncoding.bf16, .f32]

  /// Writes the directory, which appears when it is complete. Holds one tensor of the slab in memory,
  /// and checks every digest.
  ///
  /// - Parameters:
  ///   - directory: must not exist.
  ///   - type: of all tensors, one of ``types``. bf16 rounds what is not bf16 already.
  ///   - maximumShardByteCount: bytes of weights in a file; a larger tensor has one of its own.
  ///   - progress: called with the elements that are written, and those of all tensors.
  ///   - isCancelled: asked now and then; once true, nothing is left and `CancellationError` thrown.
  /// - Returns: the bytes of weights.
  /// - Throws: ``ExportError``, `SlabError`, `FileError`, `CancellationError`.
  @discardableResult
  public static func write(
    _ slab: Slab, to directory: String, as type: RowEncoding = .bf16,
    maximumShardByteCount: Int = 5_000_000_000, pool: WorkerPool,
    progress: @escaping (_ done: Int, _ total: Int) -> Void = { _, _ in },
    isCancelled: @escaping () -> Bool = { false }
  ) throws -> Int {
    precondition(types.contains(type))
    let rows = try SlabRows(slab, pool: pool, progress: progress, isCancelled: isCancelled)
    let dataType: DataType = type == .f32 ? .f32 : .bf16
    let writer = try CheckpointWriter(
      directory: directory, tensors: rows.tensors.map { ($0.name, $0.shape, dataType) },
      assets: slab.assets, maximumShardByteCount: maximumShardByteCount)
    defer { writer.close() }
    for tensor in rows.tensors {
      try rows.encode(
        tensor, rowByteCount: type.byteCount(columns: tensor.shape.last ?? 1),
        type: type.rawValue, with: type.encode
      ) { try writer.append(bytes: $0) }
    }
    try writer.finish()
    return type.byteCount(columns: rows.tensors.reduce(0) { $0 + $1.elementCount })
  }
}
