public import TensorCore

/// One frame of stored bytes: at most 1 MiB of logical bytes.
struct StoredFrame: Sendable, Equatable {
  /// Of the logical bytes (``SlabDigests/frame(_:)``).
  var digest: Digest
  /// Bytes in the file; those of the logical bytes where the codec is raw.
  var storedByteCount: Int
  /// SHA-256 of the bytes in the file; nil where the codec is raw.
  var storedDigest: Digest?
}

/// A run of bytes in a slab: a stream of a tensor, or an asset.
struct StoredBytes: Sendable, Equatable {
  var codec: SlabCodec
  var offset: Int
  var storedByteCount: Int
  var logicalByteCount: Int
  var frames: [StoredFrame]

  var byteRange: Range<Int> { offset..<offset + storedByteCount }

  /// Bytes of the file that hold each frame.
  var frameRanges: [Range<Int>] {
    var start = offset
    return frames.map { frame in
      defer { start += frame.storedByteCount }
      return start..<start + frame.storedByteCount
    }
  }
}

/// One stream of a tensor of a slab.
public struct SlabStream: Sendable {
  public let kind: StreamKind
  let bytes: StoredBytes

  public var codec: SlabCodec { bytes.codec }
  /// Place in the file.
  public var offset: Int { bytes.offset }
  public var storedByteCount: Int { bytes.storedByteCount }
  public var logicalByteCount: Int { bytes.logicalByteCount }
  public var frameCount: Int { bytes.frames.count }
}

/// A tensor as the index of a slab describes it.
public struct SlabTensor: Sendable {
  public let name: String
  public let shape: [Int]
  /// Element type in the checkpoint that the tensor was made from.
  public let sourceType: ElementType
  public let encoding: BlockEncoding
  public let layout: TensorLayout
  /// Name of the plain tensor that holds the factors of the input columns.
  public let columnScales: String?
  /// What encoding did to the tensor, where that was recorded.
  public internal(set) var statistics: ErrorStatistics?
  /// In the order of ``BlockEncoding/streams``.
  public let streams: [SlabStream]
  /// Of shape, encoding, layout, logical bytes and column scales; not of name or storage.
  public internal(set) var digest: Digest

  /// Place in the file of the first stream.
  public var offset: Int { streams[0].offset }
  /// Bytes in the file, without padding between streams.
  public var storedByteCount: Int { streams.reduce(0) { $0 + $1.storedByteCount } }
  /// Bytes in memory; padded rows and columns count, column scales do not.
  public var logicalByteCount: Int { streams.reduce(0) { $0 + $1.logicalByteCount } }
  public var elementCount: Int { shape.reduce(1, *) }
  /// Logical bits, padding included, for each element of the shape.
  public var bitsPerWeight: Double { 8 * Double(logicalByteCount) / Double(elementCount) }

  /// The matrices of a tensor in layout `panel16`; nil for a plain one.
  public var form: MatrixForm? { layout == .panel16 ? MatrixForm(shape: shape) : nil }
}

/// What a shape, an encoding and a layout say about the streams of a tensor.
enum TensorForm {
  /// Logical bytes of each stream of a tensor, in order; nil for a combination that slabs do not
  /// hold (formats/blocks.md, section 1; matrices have two dimensions, those of experts three).
  static func streams(
    shape: [Int], encoding: BlockEncoding, layout: TensorLayout
  ) -> [(kind: StreamKind, byteCount: Int)]? {
    guard (1...SlabFormat.maximumRank).contains(shape.count), shape.allSatisfy({ $0 > 0 }) else {
      return nil
    }
    var result: [(kind: StreamKind, byteCount: Int)]
    switch layout {
    case .plain:
      guard encoding == .f32 else { return nil }
      var byteCount = 4
      for dimension in shape {
        let (product, overflow) = byteCount.multipliedReportingOverflow(by: dimension)
        guard !overflow else { return nil }
        byteCount = product
      }
      result = [(.elements, byteCount)]
    case .panel16:
      guard let form = MatrixForm(shape: shape) else { return nil }
      result = encoding.streams.map { ($0, form.byteCount(of: $0, in: encoding)) }
    }
    return result.allSatisfy { $0.byteCount <= SlabFormat.maximumStreamByteCount } ? result : nil
  }

  /// Bytes of one element of a stream, for the codec that separates byte planes.
  static func elementByteCount(_ kind: StreamKind, _ encoding: BlockEncoding) -> Int {
    switch kind {
    case .elements: encoding.elementBits / 8
    case .rowScales: 4
    case .codes, .blockScales, .codebook: 1
    }
  }
}
