public import TensorCore

/// Converts slabs between profiles without loss.
public enum Repacking {
  /// Writes the same model with the streams that `profile` compresses compressed.
  ///
  /// Everything read is checked against its digest, and the root digest stays the same. The bytes
  /// are those that the converter would have written with this version of libzstd.
  /// - Parameters:
  ///   - replacing: whether a file at `path` may be replaced.
  ///   - progress: called with the logical bytes written so far and those of all tensors.
  ///   - isCancelled: asked for every frame, on any thread; once true, the work ends and leaves
  ///     nothing of the output.
  /// - Throws: ``SlabError``.
  public static func repack(
    _ slab: Slab, to path: String, profile: SlabProfile, replacing: Bool, pool: WorkerPool,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in },
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) throws(SlabError) {
    let total = slab.tensors.reduce(0) { $0 + $1.logicalByteCount }
    let writer = try SlabWriter(
      path: path, profile: profile, replacing: replacing, inputs: [slab.path],
      assets: slab.assets, metadata: slab.metadata,
      expectedByteCount: profile == .run ? max(total, slab.fileByteCount) : total, pool: pool,
      isCancelled: isCancelled)
    var done = 0
    for tensor in slab.tensorsInFileOrder {
      try writer.append(tensor) { kind, body throws(SlabError) in
        let stream = tensor.streams.first { $0.kind == kind }!
        let buffer = try slab.file.decoded(stream, of: tensor, pool: pool)
        try body(buffer.bytes)
        done += stream.logicalByteCount
        progress(done, total)
      }
    }
    try writer.finish(expecting: slab.rootDigest)
  }
}
