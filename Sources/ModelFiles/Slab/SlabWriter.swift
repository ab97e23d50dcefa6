public import TensorCore

/// Writes a slab tensor by tensor, in the order of the calls, holding at most one in memory.
///
/// Bytes go to `PATH.partial`, which is locked against other writers (`flock`); ``finish()`` makes
/// it durable and gives it its name. An error, ``cancel()`` or the end of the writer's life removes
/// it; a killed process leaves it behind, without a superblock, for the next writer to overwrite.
///
/// A writer with a fingerprint keeps a journal in `PATH.journal`: what was written before the last
/// ``recordStep(_:payload:)`` outlives the process, a power cut, a full disk and ``suspend()``, and the
/// next writer with the same fingerprint goes on behind it (``resumption``).
///
/// The same calls give the same bytes for the same version of libzstd, for any number of threads.
/// The order is the caller's plan: layers ascending, then one-dimensional tensors, then output and
/// embedding; plain tensors that follow each other share a segment.
public final class SlabWriter {
  let file: PartialFile
  let pool: WorkerPool
  let cancellation: Cancellation
  private let assets: [SlabAsset]
  var index: SlabIndex
  var placement = Placement()
  /// Names so far, as bytes: Swift's `==` on strings ignores differences of Unicode normalization.
  var names: Set<[UInt8]> = []
  /// Digests of the column scales that matrices were appended with, to be found in the tensors that
  /// they name.
  var scaleDigests: [SlabJournal.ScaleDigest] = []
  var isOpen = true

  /// Of the caller's components and the writer's own; nil without a journal.
  let fingerprint: Fingerprint?
  /// The journal that is being written beside the work.
  var pending: (summary: String, task: BackgroundTask<SlabError?>)?
  /// The summary of the step that another run would go on behind.
  public internal(set) var recorded: String?
  /// What an interrupted writer had done, if this one goes on behind it.
  public private(set) var resumption: Resumption?

  /// Root digest of what was written; nil before ``finish()``.
  public private(set) var rootDigest: Digest?

  /// What a slab at `path` is called while it is written.
  public static func partialPath(of path: String) -> String { path + ".partial" }

  /// What the journal of a slab at `path` is called.
  public static func journalPath(of path: String) -> String { SlabJournal.path(of: path) }

  /// What the writer itself says about the file.
  static var compressionMetadata: [String: String] {
    ["zstd": Zstd.version, "zstd-level": "\(Zstd.level)"]
  }

  /// Starts the file.
  ///
  /// - Parameters:
  ///   - replacing: whether a file at `path` may be replaced, when the new one is complete.
  ///   - inputs: files that are being read; the output must be none of them, whatever links lead
  ///     there.
  ///   - metadata: where the file comes from: never time, paths, host or thread count, so that the
  ///     same input gives the same file. Version and level of zstd are added.
  ///   - expectedByteCount: what the file will need; that and 16 MiB more must be free.
  ///   - fingerprint: what the bytes depend on, besides the calls; profile and version of zstd are
  ///     added. Nil for a writer without a journal.
  ///   - restarting: whether what an interrupted writer did is discarded.
  ///   - isCancelled: asked for every frame, on any thread; once true, whatever is called next or going
  ///     on throws ``SlabError/Reason/cancelled``.
  /// - Throws: ``SlabError``.
  public init(
    path: String, profile: SlabProfile, replacing: Bool, inputs: [String], assets: [SlabAsset],
    metadata: [String: String], expectedByteCount: Int, pool: WorkerPool,
    fingerprint: Fingerprint? = nil, restarting: Bool = false,
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) throws(SlabError) {
    self.pool = pool
    cancellation = Cancellation(isCancelled)
    self.assets = assets.sorted { precedes($0.name, $1.name) }
    let metadata = metadata.merging(Self.compressionMetadata) { $1 }
    index = SlabIndex(profile: profile, metadata: metadata, assets: [], tensors: [])
    try Self.check(assets: self.assets, metadata: metadata, path: path)
    self.fingerprint = fingerprint.map { Self.complete($0, profile) }
    file = try PartialFile(
      target: path, replacing: replacing, inputs: inputs, hasJournal: fingerprint != nil)
    if self.fingerprint != nil { resumption = try resume(restarting: restarting) }
    do throws(SlabError) {
      try file.checkSpace(for: max(0, expectedByteCount - (resumption == nil ? 0 : placement.end)))
    } catch {
      throw abandoned(error)
    }
  }

  /// Adds a matrix, as a tensor of one.
  public func append(
    _ matrix: WeightMatrix, name: String, shape: [Int], sourceType: ElementType,
    columnScales: String?, statistics: ErrorStatistics?
  ) throws(SlabError) {
    try append(
      WeightTensor(matrix), name: name, shape: shape, sourceType: sourceType,
      columnScales: columnScales, statistics: statistics)
  }

  /// Adds a matrix, or the matrices of the experts.
  ///
  /// - Parameters:
  ///   - shape: `[rows, columns]`, or `[experts, rows, columns]`.
  ///   - columnScales: name of the plain tensor, added before or after, that holds exactly the
  ///     column scales of `weights`; nil where they have none.
  /// - Throws: ``SlabError``; the writer is then cancelled.
  public func append(
    _ weights: WeightTensor, name: String, shape: [Int], sourceType: ElementType,
    columnScales: String?, statistics: ErrorStatistics?
  ) throws(SlabError) {
    guard MatrixForm(shape: shape) == weights.form else {
      throw abandoned(invalid(name, "the shape \(shape) is not that of the matrix"))
    }
    guard (columnScales == nil) == (weights.columnScales == nil) else {
      throw abandoned(invalid(name, "column scales without a name, or a name without them"))
    }
    for kind in weights.encoding.streams {
      let bytes = weights.stream(kind)!
      guard weights.form.firstNonzeroPadding(bytes, kind, weights.encoding) == nil else {
        throw abandoned(invalid(name, "the padding of its \(kind) is not zero"))
      }
    }
    if let scales = weights.columnScales, let columnScales {
      let bytes = UnsafeRawBufferPointer(start: scales.pointer, count: scales.columns * 4)
      let encoded = EncodedBytes(bytes, width: 4, compressing: false, pool: pool)
      scaleDigests.append(
        SlabJournal.ScaleDigest(
          tensor: name, scales: columnScales,
          digest: encoded.streamDigest(.elements, bytes.count)))
    }
    try append(
      SlabTensor(
        name: name, shape: shape, sourceType: sourceType, encoding: weights.encoding,
        layout: .panel16, columnScales: columnScales, statistics: statistics, streams: [],
        digest: .zero)
    ) { kind, body throws(SlabError) in try body(weights.stream(kind)!) }
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
      try awaitJournal()
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

  /// Gives up and removes what was written, and the journal.
  public func cancel() {
    isOpen = false
    _ = pending?.task.wait()
    pending = nil
    if file.fate == .kept { file.fate = .removed }
    recorded = nil
    file.close()
  }

  /// Replaces an entry of the metadata.
  /// - Throws: ``SlabError`` if key or value is too long; the writer is then cancelled.
  public func setMetadata(_ key: String, _ value: String) throws(SlabError) {
    var metadata = index.metadata
    metadata[key] = value
    do throws(SlabError) {
      try Self.check(assets: [], metadata: metadata, path: file.target)
    } catch {
      throw abandoned(error)
    }
    index.metadata = metadata
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
    index.metadata.merge(index.weightedErrorMetadata) { $1 }
    for tensor in index.tensors {
      if let fault = index.columnScalesFault(of: tensor) { throw invalid(tensor.name, fault) }
    }
    for entry in scaleDigests {
      guard let position = index.position(ofTensor: entry.scales),
        SlabDigests.stream(.elements, index.tensors[position].streams[0].bytes) == entry.digest
      else {
        throw invalid(
          entry.tensor, "the tensor \(entry.scales) holds other column scales than the matrix")
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

  private static let rawFramesPerWrite = 32

  /// Writes a stream or asset. The padding before it stays unwritten, which reads as zeros.
  private func write(
    _ encoded: EncodedBytes, _ logical: UnsafeRawBufferPointer, at offset: Int
  ) throws(SlabError) -> StoredBytes {
    var position = offset
    // What is not compressed goes to the file in long stretches: of these the system keeps huge pages,
    // which are read a tenth faster when the slab is mapped.
    let step = encoded.codec == .raw ? Self.rawFramesPerWrite : 1
    for index in stride(from: 0, to: encoded.frames.count, by: step) {
      // Otherwise every frame is there.
      if cancellation.isRequested {
        throw SlabError(.cancelled, path: file.target, "cancelled; nothing was written")
      }
      if encoded.codec == .raw {
        let first = index * SlabFormat.frameByteCount
        let frames = logical[
          first..<min(first + step * SlabFormat.frameByteCount, logical.count)]
        try file.write(UnsafeRawBufferPointer(rebasing: frames), at: position)
        position += frames.count
      } else {
        try file.write(encoded.compressed[index], at: position)
        position += encoded.frames[index].storedByteCount
      }
    }
    placement.advance(to: offset + encoded.storedByteCount)
    return StoredBytes(
      codec: encoded.codec, offset: offset, storedByteCount: encoded.storedByteCount,
      logicalByteCount: logical.count, frames: encoded.frames)
  }
}
