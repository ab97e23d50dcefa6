/// Borders of Unicode scalars in bytes.
enum UTF8Text {
  /// Length of the scalar that begins with `lead`, a lead byte of valid UTF-8.
  @inline(__always)
  static func length(lead: UInt8) -> Int {
    lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4
  }

  /// The scalar at `offset` of valid UTF-8, and its length.
  static func scalar(
    in text: UnsafeBufferPointer<UInt8>, at offset: Int
  ) -> (scalar: Unicode.Scalar, length: Int) {
    let lead = text[offset]
    let length = length(lead: lead)
    var value = UInt32(lead)
    if length > 1 {
      value &= 0x7F >> UInt32(length)
      for at in offset + 1..<offset + length { value = value << 6 | UInt32(text[at] & 0x3F) }
    }
    return (Unicode.Scalar(value) ?? "\u{FFFD}", length)
  }

  /// The scalar that ends before `offset` of valid UTF-8.
  static func scalar(
    in text: UnsafeBufferPointer<UInt8>, before offset: Int
  ) -> (scalar: Unicode.Scalar, length: Int) {
    var start = offset - 1
    while text[start] & 0xC0 == 0x80 { start -= 1 }
    return scalar(in: text, at: start)
  }

  /// Offset of the first byte that no scalar begins with (Unicode 17, table 3-7); nil when the
  /// whole text is valid.
  static func firstInvalid(in text: UnsafeBufferPointer<UInt8>) -> Int? {
    if String(validating: text, as: UTF8.self) != nil { return nil }
    var at = 0
    while at < text.count {
      let end = min(at + length(lead: text[at]), text.count)
      guard String(validating: text[at..<end], as: UTF8.self) != nil else { return at }
      at = end
    }
    return nil
  }

  /// How many bytes at the end may be the beginning of a scalar that is not complete yet.
  static func incompleteSuffix(of text: [UInt8]) -> Int {
    for count in 1...3 where count <= text.count {
      let lead = text[text.count - count]
      if lead & 0xC0 == 0x80 { continue }
      guard (0xC2...0xF4).contains(lead), count < length(lead: lead) else { return 0 }
      guard count >= 2 else { return count }
      // The second byte rules out surrogates, overlong forms and values past U+10FFFF.
      let second = text[text.count - count + 1]
      let possible: ClosedRange<UInt8> =
        switch lead {
        case 0xE0: 0xA0...0xBF
        case 0xED: 0x80...0x9F
        case 0xF0: 0x90...0xBF
        case 0xF4: 0x80...0x8F
        default: 0x80...0xBF
        }
      return possible.contains(second) ? count : 0
    }
    return 0
  }
}
