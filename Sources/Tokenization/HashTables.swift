// Open-addressing tables. The hash is seeded per process, so that a crafted vocabulary cannot make
// its entries collide.

private let seed = UInt64.random(in: 0...(.max))

/// Folds the 128-bit product of two words (as wyhash does): every bit of both reaches the result.
private func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
  let product = a.multipliedFullWidth(by: b)
  return product.high ^ product.low
}

/// Slots for `count` entries: a power of two, at most half full.
private func slotCount(for count: Int) -> Int {
  var slots = 16
  while slots < count * 2 { slots *= 2 }
  return slots
}

/// A map from pairs of non-negative integers to a rank and an id.
struct PairTable: Sendable {
  struct Value: Sendable {
    var rank: UInt32
    var id: Int32
  }

  private struct Slot: Sendable {
    var key: UInt64
    var value: Value
  }

  /// The rank of pairs that are not in the table: larger than every other.
  static let noRank = UInt32.max
  private static let emptyKey = UInt64.max  // two ids of -1, which no pair has

  private var slots: [Slot]
  private let mask: Int
  private let seed: UInt64

  /// A table for at most `capacity` different pairs.
  init(capacity: Int) {
    let count = slotCount(for: capacity)
    slots = Array(
      repeating: Slot(key: Self.emptyKey, value: Value(rank: Self.noRank, id: -1)), count: count)
    mask = count - 1
    seed = Tokenization.seed
  }

  /// The slot that holds the pair, or the empty one where it belongs.
  @inline(__always)
  private func slot(_ key: UInt64) -> Int {
    var slot = Int(truncatingIfNeeded: fold(key ^ seed, 0x9E37_79B9_7F4A_7C15)) & mask
    while slots[slot].key != key, slots[slot].key != Self.emptyKey { slot = (slot &+ 1) & mask }
    return slot
  }

  @inline(__always)
  private func key(_ a: Int32, _ b: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: a)) << 32 | UInt64(UInt32(bitPattern: b))
  }

  /// Sets the value of a pair; a later value replaces an earlier one.
  mutating func insert(_ a: Int32, _ b: Int32, _ value: Value) {
    let key = key(a, b)
    slots[slot(key)] = Slot(key: key, value: value)
  }

  /// The value of a pair; rank `noRank` and id -1 when the table does not have it.
  @inline(__always)
  func find(_ a: Int32, _ b: Int32) -> Value { slots[slot(key(a, b))].value }
}

/// A set of byte strings that lie in an arena, each known by its number.
struct SpellingTable: Sendable {
  private var slots: [Int32]
  private let mask: Int

  /// A table for at most `capacity` strings.
  init(capacity: Int) {
    let count = slotCount(for: capacity)
    slots = Array(repeating: -1, count: count)
    mask = count - 1
  }

  private func hash(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    var hash = seed ^ UInt64(truncatingIfNeeded: bytes.count)
    var at = 0
    while bytes.count - at >= 8 {
      hash = fold(
        hash ^ bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self), 0x9E37_79B9_7F4A_7C15)
      at += 8
    }
    var rest: UInt64 = 0
    while at < bytes.count {
      rest = rest << 8 | UInt64(bytes[at])
      at += 1
    }
    return fold(hash ^ rest, 0xD6E8_FEB8_6659_FD93)
  }

  /// The number of an equal string, or the slot where the string belongs.
  private func lookUp(
    _ bytes: UnsafeRawBufferPointer, _ arena: Arena
  ) -> (found: Int32?, slot: Int) {
    var slot = Int(truncatingIfNeeded: hash(bytes)) & mask
    while slots[slot] >= 0 {
      if arena.equals(Int(slots[slot]), bytes) { return (slots[slot], slot) }
      slot = (slot &+ 1) & mask
    }
    return (nil, slot)
  }

  /// The number of the string in the arena that equals `bytes`.
  func find(_ bytes: UnsafeRawBufferPointer, in arena: Arena) -> Int32? {
    lookUp(bytes, arena).found
  }

  /// Enters string `number` of the arena; false when an equal one is there already.
  mutating func insert(_ number: Int, of arena: Arena) -> Bool {
    let (found, slot) = arena.withBytes(of: number) { lookUp($0, arena) }
    guard found == nil else { return false }
    slots[slot] = Int32(number)
    return true
  }
}

/// Byte strings one after another in one allocation.
struct Arena: Sendable {
  private(set) var bytes: [UInt8] = []
  private var ends: [Int] = []

  var count: Int { ends.count }

  mutating func append(_ string: some Sequence<UInt8>) {
    bytes.append(contentsOf: string)
    ends.append(bytes.count)
  }

  /// Where string `number` lies in ``bytes``.
  func range(_ number: Int) -> Range<Int> { (number == 0 ? 0 : ends[number - 1])..<ends[number] }

  subscript(number: Int) -> ArraySlice<UInt8> { bytes[range(number)] }

  func withBytes<R>(of number: Int, _ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    let range = range(number)
    return try bytes.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[range])) }
  }

  func equals(_ number: Int, _ other: UnsafeRawBufferPointer) -> Bool {
    let range = range(number)
    guard range.count == other.count else { return false }
    return bytes.withUnsafeBytes { bytes in
      for offset in 0..<other.count
      where bytes[range.lowerBound &+ offset] != other[offset] { return false }
      return true
    }
  }
}
