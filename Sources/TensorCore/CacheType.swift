/// How a KV cache holds keys and values.
public enum CacheType: String, Sendable, CaseIterable {
  /// As they are.
  case f32
  /// Rounded to IEEE binary16.
  case f16
  /// In int8, with one scale for each head and token; scores and sums of values are then products of
  /// int8.
  case q8

  /// Bytes of an element, scales aside.
  public var elementByteCount: Int {
    switch self {
    case .f32: 4
    case .f16: 2
    case .q8: 1
    }
  }
}

/// The keys and values of one KV head at 256 positions, as kernels read them.
///
/// Positions of keys sit in lanes, and so do the elements of values; a head's size is padded with
/// zeros to a multiple of 16. In f32 and f16, with h that size, element d of the key of position p is
/// element `(p / 16 · h + d) · 16 + p % 16` of the keys, that of its value is element `p · h + d` of the
/// values. In q8, four codes lie together, of a key four elements, of values four positions: bytes
/// `(p / 16 · h + d / 4 · 4) · 16 + p % 16 · 4 + d % 4` and `(p / 4 · h + d) · 4 + p % 4`. Keys come
/// first, then values; then, in q8, the float32 scales of the keys and those of the values.
public struct AttentionTile: @unchecked Sendable {  // disjoint positions, or only reading
  /// Positions in a tile; tiles are aligned to position 0.
  public static let positions = 256

  public let type: CacheType
  /// A multiple of 16.
  public let headSize: Int
  let base: UnsafeMutableRawPointer

  /// - Parameters:
  ///   - base: aligned to 64 bytes, ``byteCount(_:headSize:)`` bytes, zero at first.
  ///   - headSize: a multiple of 16.
  public init(_ base: UnsafeMutableRawPointer, type: CacheType, headSize: Int) {
    self.base = base
    self.type = type
    self.headSize = headSize
  }

  /// A multiple of 64; nil where that is more than an `Int` holds.
  public static func byteCount(_ type: CacheType, headSize: Int) -> Int? {
    let (elements, overflow) = headSize.multipliedReportingOverflow(
      by: 2 * positions * type.elementByteCount)
    return overflow ? nil : elements + (type == .q8 ? 2 * positions * 4 : 0)
  }

  private var elements: Int { Self.positions * headSize }

  var keys: UnsafeMutableRawPointer { base }
  var values: UnsafeMutableRawPointer { base + elements * type.elementByteCount }
  /// Of q8.
  var keyScales: UnsafeMutablePointer<Float> {
    (base + 2 * elements).assumingMemoryBound(to: Float.self)
  }
  var valueScales: UnsafeMutablePointer<Float> { keyScales + Self.positions }
}

/// The tiles of one KV head of a sequence, in order of position; valid as long as their list.
public struct AttentionTiles: @unchecked Sendable {  // as a tile
  private let bases: UnsafePointer<UnsafeMutableRawPointer>
  private let offset: Int
  let type: CacheType
  let headSize: Int

  /// - Parameters:
  ///   - bases: memory that holds all heads of a tile.
  ///   - offset: from there to the head's.
  ///   - headSize: a multiple of 16.
  public init(
    _ bases: UnsafePointer<UnsafeMutableRawPointer>, offset: Int, type: CacheType, headSize: Int
  ) {
    self.bases = bases
    self.offset = offset
    self.type = type
    self.headSize = headSize
  }

  public subscript(index: Int) -> AttentionTile {
    AttentionTile(bases[index] + offset, type: type, headSize: headSize)
  }
}
