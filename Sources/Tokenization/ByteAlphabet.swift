/// The byte-level alphabet of GPT-2: every byte is spelled with one printable character.
///
/// The bytes that print in Latin-1 stand for themselves, the other 68 are spelled with the
/// characters from U+0100 on, in order; the blank is spelled `Ġ`.
enum ByteAlphabet {
  /// The character of every byte.
  static let scalars: [Unicode.Scalar] = {
    var next: UInt32 = 0x100
    return (0...255).map { (byte: UInt32) in
      if (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || byte >= 0xAE {
        return Unicode.Scalar(byte)!
      }
      defer { next += 1 }
      return Unicode.Scalar(next)!
    }
  }()

  /// The byte of every character from U+0000 on; -1 for those outside the alphabet.
  private static let bytes: [Int16] = {
    var bytes = [Int16](repeating: -1, count: Int(scalars.map(\.value).max()!) + 1)
    for (byte, scalar) in scalars.enumerated() { bytes[Int(scalar.value)] = Int16(byte) }
    return bytes
  }()

  /// Appends the bytes that `spelling` stands for. A spelling with a character outside the alphabet
  /// stands for its own UTF-8, as in Hugging Face's ByteLevel decoder.
  static func appendBytes(spelledBy spelling: ArraySlice<UInt8>, to result: inout [UInt8]) {
    let count = result.count
    var at = spelling.startIndex
    while at < spelling.endIndex {
      // The alphabet ends below U+0800, so its characters take one or two bytes.
      var value = Int(spelling[at])
      at += 1
      if value >= 0xC0, value < 0xE0, at < spelling.endIndex {
        value = (value & 0x1F) << 6 | Int(spelling[at] & 0x3F)
        at += 1
      } else if value >= 0x80 {
        value = bytes.count
      }
      guard value < bytes.count, bytes[value] >= 0 else {
        result.removeSubrange(count...)
        result.append(contentsOf: spelling)
        return
      }
      result.append(UInt8(bytes[value]))
    }
  }
}
