public import TensorCore

/// Writes a slab tensor by tensor, in the order of the calls, holding at most one in memory.
///
/// Bytes go to `PATH.partial`, which is locked against other writers (`flock`); ``finish()`` makes
/// it durable and gives it its name. An error, ``cancel()`` or the end of the writer's life removes
/// it; a killed process leaves it behind, without a superblock, for the next writer to overwrite.
///
/// The same calls give the same bytes for the same version of libzstd, for any number of threads.
/// The order is the caller's plan: layers ascending, then one-dimensional tensors, then output and
/// embedding; plain tensors that follow each other share a segment.
public final class SlabWriter {
  private let file: PartialFile
  private let pool: WorkerPool
  private let cancellation: Cancellation
  private let assets: [SlabAsset]
  private var index: SlabIndex
  private var placement = Placement()
  /// Names so far, as bytes: Swift's `==` on strings ignores differences of Unicode normalization.
  private var names: Set<[UInt8]> = []
  /// Digests of the column scales that matrices were appended with, to be found in the tensors that
  /// they name.
  private var scaleDigests: [(tensor: String, scales: String, digest: Digest)] = []
  private var isOpen = true

  /// Root digest of what was written; nil before ``finish()``.
  public private(set) var rootDigest: Digest?

  /// What a slab at `path` is called while it is written.
  public static func partialPath(of path: String) -> String { path + ".partial" }

  /// Starts the file.
  ///
  /// - Parameters:
  ///   - replacing: whether a file at `path` may be replaced, when the new one is complete.
  ///   - inputs: files that are being read; the output must be none of them, whatever links lead
  ///     there.
  ///   - metadata: where the file comes from: never time, paths, host or thread count, so that the
  ///     same input gives the same file. Version and level of zstd are added.
  ///   - expectedByteCount: what the file will need; that and 16 MiB more must be free.
  ///   - isCancelled: asked for every frame, on any thread; once true, whatever is called next or going
  ///     on throws ``SlabError/Reason/cancelled``.
  /// - Throws: ``SlabError``.
  public init(
    path: String, profile: SlabProfile, replacing: Bool, inputs: [String], assets: [SlabAsset],
    metadata: [String: String], expectedByteCount: Int, pool: WorkerPool,
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) throws(SlabError) {
    self.pool = pool
    cancellation = Cancellation(isCancelled)
    self.assets = assets.sorted { precedes($0.name, $1.name) }
    var metadata = metadata
    metadata["zstd"] = Zstd.version
    metadata["zstd-level"] = "\(Zstd.level)"
    index = SlabIndex(profile: profile, metadata: metadata, assets: [], tensors: [])
    try Self.check(assets: self.assets, metadata: metadata, path: path)
    file = try PartialFile(
      target: path, replacing: replacing, inputs: inputs, expectedByteCount: expectedByteCount)
  }

  /// Adds a matrix.
  ///
  /// - Parameters:
  ///   - shape: `[rows, columns]`.
  ///   - columnScales: name of the plain tensor, added before or after, that holds exactly the
  ///     column scales of `matrix`; nil where it has none.
  /// - Throws: ``SlabError``; the writer is then cancelled.
  public func append(
    _ matrix: WeightMatrix, name: String, shape: [Int], sourceType: ElementType,
    columnScales: String?, statistics: ErrorStatistics?
  ) throws(SlabError) {
    guard shape == [matrix.geometry.rows, matrix.geometry.columns] else {
      throw abandoned(invalid(name, "the shape \(shape) is not that of the matrix"))
    }
    guard (columnScales == nil) == (matrix.columnScales == nil) else {
      throw abandoned(invalid(name, "column scales without a name, or a name without them"))
    }
    for kind in matrix.encoding.streams {
      let bytes = matrix.stream(kind)!
      guard matrix.geometry.firstNonzeroPadding(bytes, kind, matrix.encoding) == nil else {
        throw abandoned(invalid(name, "the padding of its \(kind) is not zero"))
      }
    }
    if let scales = matrix.columnScales, let columnScales {
      let bytes = UnsafeRawBufferPointer(start: scales.pointer, count: scales.columns * 4)
      let encoded = EncodedBytes(bytes, width: 4, compressing: false, pool: pool)
      scaleDigests.append((name, columnScales, encoded.streamDigest(.elements, bytes.count)))
    }
    try append(
      SlabTensor(
        name: name, shape: shape, sourceType: sourceType, encoding: matrix.encoding,
        layout: .panel16, columnScales: columnScales, statistics: statistics, streams: [],
        digest: .zero)
    ) { kind, body throws(SlabError) in try body(matrix.stream(kind)!) }
  }

  /// Adds a tensor in layout `plain`: one-dimensional tensors, convolutions, column scales.
  /// - Parameter values: row-major.
  /// - Throws: ``SlabError``; the writer is then cancelled.
  public func append(
    _ values: [Float], name: String, shape: [Int], sourceType: ElementType
  ) throws(SlabError) {
    try append(
      SlabTensor(
        name: name, shape: shape, sourceType: sourceType, encoding: .f32, layout: .plain,
        columnScales: nil, statistics: nil, streams: [], digest: .zero)
    ) { _, body throws(SlabError) in
      try values.withUnsafeBufferPointer { buffer throws(SlabError) in
        try body(UnsafeRawBufferPointer(buffer))
      }
    }
  }

  /// Adds a tensor whose streams come one after the other.
  /// - Parameter withStream: calls its second argument with the logical bytes of a stream.
  func append(
    _ tensor: SlabTensor,
    withStream: (
      StreamKind, (UnsafeRawBufferPointer) throws(SlabError) -> Void
    ) throws(SlabError) -> Void
  ) throws(SlabError) {
    do throws(SlabError) {
      guard isOpen else { throw invalid(tensor.name, "the writer is finished or cancelled") }
      let forms = try check(tensor)
      var streams: [SlabStream] = []
      for form in forms {
        try withStream(form.kind) { bytes throws(SlabError) in
          guard bytes.count == form.byteCount else {
            throw invalid(
              tensor.name, "\(form.kind) have \(bytes.count) bytes, not \(form.byteCount)")
          }
          let encoded = EncodedBytes(
            bytes, width: TensorForm.elementByteCount(form.kind, tensor.encoding),
            compressing: index.profile == .ship || tensor.layout == .plain, pool: pool,
            cancellation: cancellation)
          let offset =
            streams.isEmpty
            ? placement.startTensor(layout: tensor.layout) : placement.nextStream()
          streams.append(
            SlabStream(kind: form.kind, bytes: try write(encoded, bytes, at: offset)))
        }
      }
      index.tensors.append(
        SlabTensor(
          name: tensor.name, shape: tensor.shape, sourceType: tensor.sourceType,
          encoding: tensor.encoding, layout: tensor.layout, columnScales: tensor.columnScales,
          statistics: tensor.statistics, streams: streams, digest: .zero))
    } catch {
      throw abandoned(error)
    }
  }

  /// Completes the file: assets, index, then the superblock, each durable before the next; then
  /// the name.
  /// - Throws: ``SlabError``; the writer is then cancelled.
  public func finish() throws(SlabError) { try finish(expecting: nil) }

  /// - Parameter root: what the root digest must be, if known.
  func finish(expecting root: Digest?) throws(SlabError) {
    do throws(SlabError) {
      guard isOpen else { throw invalid(nil, "the writer is finished or cancelled") }
      try finishContents()
      let superblock = try writeIndex()
      guard root == nil || superblock.rootDigest == root else {
        throw invalid(nil, "the root digest changed on the way")
      }
      try file.synchronize()
      try file.write(superblock.encoded(), at: 0)
      try file.synchronize()
      try file.publish()
      rootDigest = superblock.rootDigest
      isOpen = false
    } catch {
      throw abandoned(error)
    }
  }

  /// Gives up and removes what was written.
  public func cancel() {
    isOpen = false
    file.discard()
  }

  /// Writes the assets and completes the index.
  private func finishContents() throws(SlabError) {
    for asset in assets {
      index.assets.append(
        try asset.bytes.withUnsafeBufferPointer { buffer throws(SlabError) in
          let bytes = UnsafeRawBufferPointer(buffer)
          let encoded = EncodedBytes(bytes, width: 1, compressing: true, pool: pool)
          return AssetRecord(
            name: asset.name, bytes: try write(encoded, bytes, at: placement.startAsset()))
        })
    }
    index.tensors.sort { precedes($0.name, $1.name) }
    for tensor in index.tensors {
      if let fault = index.columnScalesFault(of: tensor) { throw invalid(tensor.name, fault) }
    }
    for (tensor, scales, digest) in scaleDigests {
      let stored = index.tensors[index.position(ofTensor: scales)!].streams[0]
      guard SlabDigests.stream(.elements, stored.bytes) == digest else {
        throw invalid(tensor, "the tensor \(scales) holds other column scales than the matrix")
      }
    }
    index.fillDigests()
  }

  private func writeIndex() throws(SlabError) -> Superblock {
    let bytes = index.encoded()
    guard bytes.count <= SlabFormat.maximumIndexByteCount else {
      throw invalid(nil, "the index would be longer than a slab can have")
    }
    let offset = placement.index()
    try file.write(bytes, at: offset)
    return Superblock(
      indexOffset: offset, indexByteCount: bytes.count, indexDigest: Digest(of: bytes),
      rootDigest: index.rootDigest)
  }

  /// Writes a stream or asset. The padding before it stays unwritten, which reads as zeros.
  private func write(
    _ encoded: EncodedBytes, _ logical: UnsafeRawBufferPointer, at offset: Int
  ) throws(SlabError) -> StoredBytes {
    var position = offset
    for index in encoded.frames.indices {
      // Otherwise every frame is there.
      if cancellation.isRequested {
        throw SlabError(.cancelled, path: file.target, "cancelled; nothing was written")
      }
      if encoded.codec == .raw {
        let frame = logical[SlabFormat.frameRange(index, of: logical.count)]
        try file.write(UnsafeRawBufferPointer(rebasing: frame), at: position)
      } else {
        try file.write(encoded.compressed[index], at: position)
      }
      position += encoded.frames[index].storedByteCount
    }
    placement.advance(to: offset + encoded.storedByteCount)
    return StoredBytes(
      codec: encoded.codec, offset: offset, storedByteCount: encoded.storedByteCount,
      logicalByteCount: logical.count, frames: encoded.frames)
  }
}

// MARK: - Checks

extension SlabWriter {
  private func invalid(_ name: String?, _ message: String) -> SlabError {
    SlabError(.invalidInput, path: file.target, name: name, message)
  }

  /// Cancels; returns its argument.
  private func abandoned(_ error: SlabError) -> SlabError {
    cancel()
    return error
  }

  /// The streams that the tensor must have.
  private func check(
    _ tensor: SlabTensor
  ) throws(SlabError) -> [(kind: StreamKind, byteCount: Int)] {
    guard SlabFormat.isName(tensor.name) else {
      throw invalid(
        tensor.name,
        "a name must have 1 to \(SlabFormat.maximumNameByteCount) bytes and no control characters")
    }
    guard names.insert(Array(tensor.name.utf8)).inserted else {
      throw invalid(tensor.name, "a tensor of this name was written before")
    }
    guard names.count <= SlabFormat.maximumTensorCount else {
      throw invalid(tensor.name, "a slab holds at most \(SlabFormat.maximumTensorCount) tensors")
    }
    if let statistics = tensor.statistics {
      guard statistics.normalizedMeanSquaredError.isFinite,
        statistics.maximumAbsoluteError.isFinite, statistics.cosineSimilarity.isFinite
      else { throw invalid(tensor.name, "its error statistics are not finite") }
    }
    guard
      let forms = TensorForm.streams(
        shape: tensor.shape, encoding: tensor.encoding, layout: tensor.layout)
    else {
      throw invalid(
        tensor.name,
        "a slab holds no tensor of shape \(tensor.shape) as \(tensor.encoding.name) in layout "
          + "\(tensor.layout)")
    }
    return forms
  }

  private static func check(
    assets: [SlabAsset], metadata: [String: String], path: String
  ) throws(SlabError) {
    func invalid(_ name: String?, _ message: String) -> SlabError {
      SlabError(.invalidInput, path: path, name: name, message)
    }
    guard assets.count <= SlabFormat.maximumAssetCount,
      assets.reduce(0, { $0 + $1.bytes.count }) <= SlabFormat.maximumAssetByteCount
    else { throw invalid(nil, "too many assets, or too long ones") }
    for (index, asset) in assets.enumerated() {
      guard SlabFormat.isAssetName(asset.name),
        index == 0 || precedes(assets[index - 1].name, asset.name)
      else { throw invalid(asset.name, "the name of an asset is no file name, or occurs twice") }
    }
    guard metadata.count <= SlabFormat.maximumMetadataCount else {
      throw invalid(nil, "too many metadata entries")
    }
    for (key, value) in metadata {
      guard SlabFormat.isName(key), value.utf8.count <= SlabFormat.maximumValueByteCount else {
        throw invalid(key, "a metadata entry is too long, or its key no name")
      }
    }
  }
}

extension EncodedBytes {
  /// Digest of these bytes as a stream, wherever they are stored.
  fileprivate func streamDigest(_ kind: StreamKind, _ logicalByteCount: Int) -> Digest {
    SlabDigests.stream(
      kind,
      StoredBytes(
        codec: codec, offset: 0, storedByteCount: 0, logicalByteCount: logicalByteCount,
        frames: frames))
  }
}
