public import ModelFiles
import Quantization
public import TensorCore

extension SyntheticModel {
  /// What goes on while a model is written.
  public struct Monitor {
    /// Called with the bytes of bfloat16 weights that are done, and those of all.
    let progress: (_ done: Int, _ total: Int) -> Void
    /// Asked now and then; once true, writing ends with `CancellationError`.
    let isCancelled: @Sendable () -> Bool

    /// Does nothing and never stops where nothing is given.
    public init(
      progress: @escaping (_ done: Int, _ total: Int) -> Void = { _, _ in },
      isCancelled: @escaping @Sendable () -> Bool = { false }
    ) {
      self.progress = progress
      self.isCancelled = isCancelled
    }

    func advance(_ done: Int, _ total: Int) throws {
      if isCancelled() { throw CancellationError() }
      progress(done, total)
    }
  }

  /// Writes a checkpoint directory in the published form: bfloat16, shards of at most 5 GB with an
  /// index. Memory is that of a few rows. The directory appears when it is complete; what fails or is
  /// cancelled leaves nothing.
  ///
  /// - Parameter others: files to carry besides config.json, such as those of a tokenizer.
  /// - Throws: `FileError`, `CancellationError`.
  public func writeCheckpoint(
    to directory: String, assets others: [SlabAsset] = [],
    maximumShardByteCount: Int = 5_000_000_000,
    pool: WorkerPool, monitor: Monitor = Monitor()
  ) throws {
    let writer = try checkpointWriter(directory, others, maximumShardByteCount)
    defer { writer.close() }
    var done = 0
    for index in tensors.indices {
      try forEachPiece(ofTensor: index, pool: pool) { bytes in
        try monitor.advance(done, byteCount)
        try writer.append(bytes: bytes)
        done += bytes.count
      }
    }
    try writer.finish()
    monitor.progress(done, byteCount)
  }

  /// Writes a checkpoint directory as ``writeCheckpoint(to:assets:maximumShardByteCount:pool:monitor:)``
  /// does, but for the weights: they are left out, read as zeros, and take no space where the file system
  /// has holes. Enough for what headers tell.
  ///
  /// - Throws: `FileError`.
  public func writeHeaders(
    to directory: String, assets others: [SlabAsset] = [],
    maximumShardByteCount: Int = 5_000_000_000
  ) throws {
    let writer = try checkpointWriter(directory, others, maximumShardByteCount, isSparse: true)
    defer { writer.close() }
    for tensor in tensors { try writer.skip(2 * tensor.shape.reduce(1, *)) }
    try writer.finish()
  }

  private func checkpointWriter(
    _ directory: String, _ others: [SlabAsset], _ maximumShardByteCount: Int,
    isSparse: Bool = false
  ) throws -> CheckpointWriter {
    try CheckpointWriter(
      directory: directory, tensors: tensors.map { ($0.name, $0.shape, .bf16) },
      assets: assets(others), maximumShardByteCount: maximumShardByteCount, isSparse: isSparse)
  }

  /// Quantizes tensor after tensor, holding one at a time, and writes a slab: tensors and assets, and
  /// with them the root digest, are those of a conversion of the checkpoint.
  ///
  /// - Parameter others: files to carry besides config.json, such as those of a tokenizer.
  /// - Returns: the root digest.
  /// - Throws: `RecipeError`, `SlabError`, `QuantizationError`, `CancellationError`.
  public func writeSlab(
    to path: String, recipe: Recipe, profile: SlabProfile = .run, assets others: [SlabAsset] = [],
    replacing: Bool = false, pool: WorkerPool, monitor: Monitor = Monitor()
  ) throws -> Digest {
    let matching = try RecipeMatching(recipe, configuration)
    let writer = try SlabWriter(
      path: path, profile: profile, replacing: replacing, inputs: [], assets: assets(others),
      metadata: [
        "tool": "quarry \(Converter.version)", "numerics": "\(Reference.numericsVersion)",
        "source": "synthetic weights, seed \(seed)",
      ].merging(recipe.metadata) { $1 },
      expectedByteCount: RandomWeights(configuration, matching).byteCount, pool: pool,
      isCancelled: monitor.isCancelled)
    do {
      let matches = matching.tensors  // of the same tensors in the same order
      var done = 0
      for index in tensors.indices.sorted(by: { rank(matches[$0].role) < rank(matches[$1].role) }) {
        try monitor.advance(done, byteCount)
        let (name, shape) = tensors[index]
        let rowCount = shape.dropLast().reduce(1, *)
        let buffer = AlignedBuffer(byteCount: 2 * shape.reduce(1, *))
        let elements = buffer.base.assumingMemoryBound(to: UInt16.self)
        fill(elements, tensor: index, rows: 0..<rowCount, pool: pool)
        if let encoding = matches[index].encoding {
          let rows = MatrixView(
            buffer.bytes, elementType: .bf16, rows: rowCount, columns: shape.last!)
          let (weights, statistics) = try Quantizer.encode(
            rows.split(into: shape.count == 3 ? shape[0] : 1), as: encoding, pool: pool,
            isCancelled: monitor.isCancelled)
          try writer.append(
            weights, name: name, shape: shape, sourceType: .bf16, columnScales: nil,
            statistics: statistics)
        } else {
          let values = (0..<shape.reduce(1, *)).map { Float(bfloat16Bits: elements[$0]) }
          try writer.append(values, name: name, shape: shape, sourceType: .bf16)
        }
        done += buffer.byteCount
      }
      try writer.finish()
      monitor.progress(done, byteCount)
    } catch {
      writer.cancel()
      let isCancelled =
        error as? QuantizationError == .cancelled || (error as? SlabError)?.reason == .cancelled
      throw isCancelled ? CancellationError() : error
    }
    return writer.rootDigest!
  }

  /// Slabs hold the layers first, then vectors, output and embedding.
  private func rank(_ role: TensorRole) -> Int {
    switch role {
    case .norm, .bias, .convolution, .stateSpace: 1
    case .output: 2
    case .embedding, .positions: 3
    default: 0
    }
  }

  /// Makes a tensor piece by piece, some 32 MiB each.
  private func forEachPiece(
    ofTensor index: Int, pool: WorkerPool, _ body: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    let shape = tensors[index].shape
    let (rows, columns) = (shape.dropLast().reduce(1, *), shape.last!)
    let piece = min(rows, max(1, (16 << 20) / columns))
    let buffer = AlignedBuffer(byteCount: 2 * piece * columns)
    for first in stride(from: 0, to: rows, by: piece) {
      let range = first..<min(first + piece, rows)
      fill(
        buffer.base.assumingMemoryBound(to: UInt16.self), tensor: index, rows: range, pool: pool)
      try body(UnsafeRawBufferPointer(rebasing: buffer.bytes[..<(2 * range.count * columns)]))
    }
  }
}
