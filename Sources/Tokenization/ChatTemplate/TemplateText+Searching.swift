extension TemplateText {
  /// Byte offset of the first `needle` at or after byte `start`.
  ///
  /// Linear in the text for any needle, and without a table as large as the needle: long needles are
  /// found by a rolling hash (Karp and Rabin, 1987) modulo 2^61 - 1 with a random base, so that no
  /// text can be made to collide.
  static func firstOffset(of needle: [UInt8], in text: [UInt8], from start: Int = 0) -> Int? {
    if needle.isEmpty { return start <= text.count ? start : nil }
    guard text.count - start >= needle.count else { return nil }
    return text.withUnsafeBufferPointer { text in
      needle.withUnsafeBufferPointer { needle in
        needle.count <= 32
          ? firstOffset(ofShort: needle, in: text, from: start)
          : firstOffset(ofLong: needle, in: text, from: start)
      }
    }
  }

  private static func firstOffset(
    ofShort needle: UnsafeBufferPointer<UInt8>, in text: UnsafeBufferPointer<UInt8>, from start: Int
  ) -> Int? {
    let first = needle[0]
    for offset in start...(text.count - needle.count) where text[offset] == first {
      if matches(needle, text, at: offset) { return offset }
    }
    return nil
  }

  private static func matches(
    _ needle: UnsafeBufferPointer<UInt8>, _ text: UnsafeBufferPointer<UInt8>, at offset: Int
  ) -> Bool {
    for index in 0..<needle.count where text[offset &+ index] != needle[index] { return false }
    return true
  }

  private static let base = UInt64.random(in: 256..<(1 << 60))

  private static func firstOffset(
    ofLong needle: UnsafeBufferPointer<UInt8>, in text: UnsafeBufferPointer<UInt8>, from start: Int
  ) -> Int? {
    let base = base
    var wanted: UInt64 = 0
    var hash: UInt64 = 0
    /// base^(needle.count): what the byte that leaves the window counts.
    var leaving: UInt64 = 1
    for index in 0..<needle.count {
      wanted = hashed(wanted, base, needle[index])
      hash = hashed(hash, base, text[start + index])
      leaving = hashed(leaving, base, 0)
    }
    var offset = start
    while true {
      if hash == wanted, matches(needle, text, at: offset) { return offset }
      guard offset + needle.count < text.count else { return nil }
      let removed = hashed(leaving, UInt64(text[offset]), 0)
      hash = hashed(hash, base, text[offset + needle.count])
      hash = hash >= removed ? hash - removed : hash + modulus - removed
      offset += 1
    }
  }

  private static let modulus: UInt64 = (1 << 61) - 1

  /// hash * base + byte modulo 2^61 - 1.
  private static func hashed(_ hash: UInt64, _ base: UInt64, _ byte: UInt8) -> UInt64 {
    let product = hash.multipliedFullWidth(by: base)
    let folded = (product.low & modulus) + (product.high << 3 | product.low >> 61) + UInt64(byte)
    let reduced = (folded & modulus) + (folded >> 61)
    return reduced >= modulus ? reduced - modulus : reduced
  }
}
