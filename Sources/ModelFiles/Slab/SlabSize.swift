public import TensorCore

/// How large a slab will be, known before its weights are: exact for what is stored as it is, a bound for
/// what will be compressed. Made in the order of a ``SlabWriter``'s calls.
public struct SlabSize {
  /// Which end of what is possible is computed.
  public enum Bound: Sendable {
    /// What will be compressed vanishes.
    case least
    /// It stays as it is.
    case most
  }

  /// Assets as a slab stores them.
  public struct Assets: Sendable {
    fileprivate let records: [AssetRecord]

    /// Compresses them to find out.
    public init(_ assets: [SlabAsset], pool: WorkerPool) {
      records = assets.map { asset in
        asset.bytes.withUnsafeBytes { bytes in
          let encoded = EncodedBytes(bytes, width: 1, compressing: true, pool: pool)
          return AssetRecord(
            name: asset.name,
            bytes: StoredBytes(
              codec: encoded.codec, offset: 0, storedByteCount: encoded.storedByteCount,
              logicalByteCount: bytes.count, frames: encoded.frames))
        }
      }
    }
  }

  /// Bytes from the start of a tensor in layout `panel16` to that of what follows it, stored as it is.
  public static func segmentByteCount(_ form: MatrixForm, _ encoding: BlockEncoding) -> Int {
    let end = encoding.streams.reduce(0) {
      SlabFormat.align($0, to: SlabFormat.streamAlignment)
        + form.byteCount(of: $1, in: encoding)
    }
    return SlabFormat.align(end, to: SlabFormat.segmentAlignment)
  }

  private let bound: Bound
  private let assets: Assets
  private var placement = Placement()
  private var index: SlabIndex

  /// - Parameter metadata: as the writer is given.
  public init(_ bound: Bound, profile: SlabProfile, assets: Assets, metadata: [String: String]) {
    self.bound = bound
    self.assets = assets
    var metadata = metadata
    metadata["zstd"] = Zstd.version
    metadata["zstd-level"] = "\(Zstd.level)"
    index = SlabIndex(profile: profile, metadata: metadata, assets: [], tensors: [])
  }

  /// Adds a matrix with error statistics, or a plain tensor.
  ///
  /// - Parameters:
  ///   - encoding: nil for a plain tensor.
  ///   - columnScales: name of the tensor that holds the matrix's.
  ///   - isWeighted: whether an importance-weighted error will be recorded.
  /// - Precondition: slabs hold tensors of that shape.
  public mutating func append(
    name: String, shape: [Int], encoding: BlockEncoding?, columnScales: String? = nil,
    isWeighted: Bool = false
  ) {
    let layout: TensorLayout = encoding == nil ? .plain : .panel16
    guard
      let forms = TensorForm.streams(shape: shape, encoding: encoding ?? .f32, layout: layout)
    else { preconditionFailure("no slab holds \(name) of shape \(shape)") }
    var streams: [SlabStream] = []
    for form in forms {
      let offset =
        streams.isEmpty ? placement.startTensor(layout: layout) : placement.nextStream()
      let bytes = stored(
        form.byteCount, at: offset, compressing: layout == .plain || index.profile == .ship)
      placement.advance(to: offset + bytes.storedByteCount)
      streams.append(SlabStream(kind: form.kind, bytes: bytes))
    }
    // Only the lengths of numbers matter, and only where they are written as text.
    let statistics = ErrorStatistics(
      normalizedMeanSquaredError: 0, maximumAbsoluteError: 0, cosineSimilarity: 0,
      weightedError: isWeighted ? (bound == .least ? 0 : 1.2345678901234567e-100) : nil)
    index.tensors.append(
      SlabTensor(
        name: name, shape: shape, sourceType: .f32, encoding: encoding ?? .f32, layout: layout,
        columnScales: columnScales, statistics: encoding == nil ? nil : statistics,
        streams: streams, digest: .zero))
  }

  private func stored(_ byteCount: Int, at offset: Int, compressing: Bool) -> StoredBytes {
    let frames = (0..<SlabFormat.frameCount(byteCount)).map { frame in
      StoredFrame(
        digest: .zero, storedByteCount: SlabFormat.frameRange(frame, of: byteCount).count,
        storedDigest: compressing && bound == .most ? .zero : nil)
    }
    return StoredBytes(
      codec: .raw, offset: offset,
      storedByteCount: compressing && bound == .least ? 0 : byteCount, logicalByteCount: byteCount,
      frames: frames)
  }

  /// Bytes of the file that holds what was added, and the assets.
  public var byteCount: Int {
    var placement = placement
    for asset in assets.records {
      placement.advance(to: placement.startAsset() + asset.bytes.storedByteCount)
    }
    return placement.index() + indexByteCount
  }

  /// Bytes of the file's index.
  public var indexByteCount: Int {
    var index = index
    index.assets = assets.records
    index.metadata.merge(index.weightedErrorMetadata) { $1 }
    return index.encoded().count
  }
}
