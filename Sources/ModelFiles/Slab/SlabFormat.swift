#if _endian(big)
  #error("Weights are used as they are mapped, and slabs are little-endian")
#endif

/// The numbers of formats/slab.md.
enum SlabFormat {
  static let version: UInt32 = 1
  static let magic: [UInt8] = [0x8A, 0x53, 0x4C, 0x42, 0x0D, 0x0A, 0x1A, 0x0A]
  /// Read as a little-endian number; a file with the bytes reversed is big-endian.
  static let byteOrderMark: UInt32 = 0x0102_0304

  static let superblockByteCount = 4096
  static let segmentAlignment = 16384
  static let streamAlignment = 64
  static let frameByteCount = 1 << 20

  /// Stored bytes of a frame beyond its logical ones, at most: zstd never needs as many.
  static let maximumFrameExpansion = 8192

  static let maximumIndexByteCount = 64 << 20
  static let maximumTensorCount = 65536
  static let maximumAssetCount = 256
  /// Of all assets together.
  static let maximumAssetByteCount = 256 << 20
  static let maximumMetadataCount = 4096
  static let maximumNameByteCount = 255
  static let maximumValueByteCount = 65535
  static let maximumRank = 8
  /// Logical bytes of one stream; far from where sums could overflow.
  static let maximumStreamByteCount = 1 << 46

  static func frameCount(_ logicalByteCount: Int) -> Int {
    (logicalByteCount + frameByteCount - 1) / frameByteCount
  }

  /// Logical bytes of frame `index` of a stream.
  static func frameRange(_ index: Int, of logicalByteCount: Int) -> Range<Int> {
    index * frameByteCount..<min((index + 1) * frameByteCount, logicalByteCount)
  }

  static func align(_ offset: Int, to alignment: Int) -> Int {
    (offset + alignment - 1) / alignment * alignment
  }

  /// Whether `text` may be a name or key: not empty, not too long, nothing that could upset a
  /// terminal.
  static func isName(_ text: String) -> Bool {
    (1...maximumNameByteCount).contains(text.utf8.count)
      && !text.unicodeScalars.contains { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) }
  }

  /// Whether `text` may be the name of an asset: a plain file name.
  static func isAssetName(_ text: String) -> Bool {
    isName(text) && !text.utf8.contains(UInt8(ascii: "/")) && text != "." && text != ".."
  }
}

/// The order of names in an index: by their UTF-8 bytes. Swift's `<` on strings compares after
/// Unicode normalization, as does `==`.
func precedes(_ left: String, _ right: String) -> Bool {
  left.utf8.lexicographicallyPrecedes(right.utf8)
}

/// Which streams of a slab are compressed. Raw values are the ids of the index.
public enum SlabProfile: UInt8, Sendable, CaseIterable {
  /// Streams that kernels read are raw, mapped and used in place; the rest is compressed.
  case run = 0
  /// Everything is compressed, for download.
  case ship = 1

  public var name: String { "\(self)" }

  public init?(name: String) {
    guard let match = Self.allCases.first(where: { $0.name == name }) else { return nil }
    self = match
  }
}

/// How the bytes of a stream are stored. Raw values are the ids of the index.
public enum SlabCodec: UInt8, Sendable, CaseIterable {
  case raw = 0
  /// One zstd frame for each frame.
  case zstd = 1
  /// The same, over the frame's bytes regrouped: all first bytes of the elements, all second ones
  /// and so on. For elements of 2 and 4 bytes.
  case zstdPlanes = 2

  public var name: String {
    switch self {
    case .raw: "raw"
    case .zstd: "zstd"
    case .zstdPlanes: "zstd-planes"
    }
  }
}
