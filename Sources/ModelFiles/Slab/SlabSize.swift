public import TensorCore

/// How large a slab will be, known before its weights are: exact for what is stored as it is, a bound for
/// what will be compressed but for plain tensors that were compressed to find out. Made in the order of a
/// ``SlabWriter``'s calls.
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

  /// How a plain tensor will be stored.
  public struct Plain: Sendable, Equatable {
    /// Bytes in the file of each frame.
    package let frameByteCounts: [Int]
    package let isCompressed: Bool

    /// Compresses the elements of a tensor to find out.
    public init(_ values: [Float], pool: WorkerPool) {
      let encoded = values.withUnsafeBytes {
        EncodedBytes($0, width: 4, compressing: true, pool: pool)
      }
      self.init(
        frameByteCounts: encoded.frames.map(\.storedByteCount), isCompressed: encoded.codec != .raw)
    }

    package init(frameByteCounts: [Int], isCompressed: Bool) {
      self.frameByteCounts = frameByteCounts
      self.isCompressed = isCompressed
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

  /// Adds a matrix with error statistics.
  ///
  /// - Parameters:
  ///   - columnScales: name of the tensor that holds the matrix's.
  ///   - isWeighted: whether an importance-weighted error will be recorded.
  ///   - weightedError: that error, where it is known.
  /// - Precondition: slabs hold matrices of that shape.
  public mutating func append(
    name: String, shape: [Int], encoding: BlockEncoding, columnScales: String?, isWeighted: Bool,
    weightedError: Double? = nil
  ) {
    // Only the lengths of numbers matter, and only where they are written as text.
    let error = weightedError ?? (bound == .least ? 0 : 1.2345678901234567e-100)
    append(
      name: name, shape: shape, encoding: encoding, layout: .panel16, columnScales: columnScales,
      statistics: ErrorStatistics(
        normalizedMeanSquaredError: 0, maximumAbsoluteError: 0, cosineSimilarity: 0,
        weightedError: isWeighted ? error : nil)
    ) { [bound, profile = index.profile] in
      Self.stored($0, at: $1, profile == .ship ? bound : nil)
    }
  }

  /// Adds a plain tensor.
  ///
  /// - Parameter known: how it will be stored, where that has been found out.
  /// - Precondition: slabs hold tensors of that shape.
  public mutating func append(name: String, shape: [Int], known: Plain? = nil) {
    append(
      name: name, shape: shape, encoding: .f32, layout: .plain, columnScales: nil, statistics: nil
    ) { [bound] byteCount, offset in
      known.map { Self.stored($0, byteCount, at: offset) }
        ?? Self.stored(byteCount, at: offset, bound)
    }
  }

  private mutating func append(
    name: String, shape: [Int], encoding: BlockEncoding, layout: TensorLayout,
    columnScales: String?, statistics: ErrorStatistics?,
    stored: (_ byteCount: Int, _ offset: Int) -> StoredBytes
  ) {
    guard let forms = TensorForm.streams(shape: shape, encoding: encoding, layout: layout) else {
      preconditionFailure("no slab holds \(name) of shape \(shape)")
    }
    var streams: [SlabStream] = []
    for form in forms {
      let offset =
        streams.isEmpty ? placement.startTensor(layout: layout) : placement.nextStream()
      let bytes = stored(form.byteCount, offset)
      placement.advance(to: offset + bytes.storedByteCount)
      streams.append(SlabStream(kind: form.kind, bytes: bytes))
    }
    index.tensors.append(
      SlabTensor(
        name: name, shape: shape, sourceType: .f32, encoding: encoding, layout: layout,
        columnScales: columnScales, statistics: statistics, streams: streams, digest: .zero))
  }

  /// - Parameter bound: nil for what is stored as it is.
  private static func stored(_ byteCount: Int, at offset: Int, _ bound: Bound?) -> StoredBytes {
    let frames = (0..<SlabFormat.frameCount(byteCount)).map { frame in
      StoredFrame(
        digest: .zero, storedByteCount: SlabFormat.frameRange(frame, of: byteCount).count,
        storedDigest: bound == .most ? .zero : nil)
    }
    return StoredBytes(
      codec: .raw, offset: offset, storedByteCount: bound == .least ? 0 : byteCount,
      logicalByteCount: byteCount, frames: frames)
  }

  private static func stored(_ known: Plain, _ byteCount: Int, at offset: Int) -> StoredBytes {
    let frames = known.frameByteCounts.map { count in
      StoredFrame(
        digest: .zero, storedByteCount: count, storedDigest: known.isCompressed ? .zero : nil)
    }
    return StoredBytes(
      codec: .raw, offset: offset, storedByteCount: known.frameByteCounts.reduce(0, +),
      logicalByteCount: byteCount, frames: frames)
  }

  /// Logical bytes of all tensors, column scales included.
  public var logicalByteCount: Int { index.tensors.reduce(0) { $0 + $1.logicalByteCount } }

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
    index.tensors.sort { precedes($0.name, $1.name) }
    index.metadata.merge(index.weightedErrorMetadata) { $1 }
    return index.encoded().count
  }
}
