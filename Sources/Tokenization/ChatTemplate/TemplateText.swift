/// A Python string: a sequence of code points, compared code point by code point.
///
/// Swift's `String` would compare by canonical equivalence and count grapheme clusters. Stored as
/// UTF-8, in which searching works on bytes and the order of bytes is the order of code points.
struct TemplateText: Hashable, Sendable {
  let utf8: [UInt8]
  /// Number of code points.
  let count: Int

  init(utf8: [UInt8]) {
    self.utf8 = utf8
    var count = 0
    for byte in utf8 where byte & 0xC0 != 0x80 { count &+= 1 }
    self.count = count
  }

  init(_ string: String) { self.init(utf8: Array(string.utf8)) }

  init(_ scalars: some Sequence<Unicode.Scalar>) {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: scalars)
    self.init(String(view))
  }

  var string: String { String(decoding: utf8, as: UTF8.self) }
  var scalars: [Unicode.Scalar] { Array(string.unicodeScalars) }
  var isASCII: Bool { count == utf8.count }
  var isEmpty: Bool { utf8.isEmpty }

  /// Where code point `index` begins; `index` may be `count`.
  func byteOffset(of index: Int) -> Int {
    if isASCII { return index }
    var left = index
    for (offset, byte) in utf8.enumerated() where byte & 0xC0 != 0x80 {
      if left == 0 { return offset }
      left -= 1
    }
    return utf8.count
  }

  /// The code points of a range of indexes within `0...count`.
  subscript(range: Range<Int>) -> TemplateText {
    let start = byteOffset(of: range.lowerBound)
    let end = byteOffset(of: range.upperBound)
    return TemplateText(utf8: Array(utf8[start..<end]))
  }

  /// Every code point as a text of its own.
  var characters: [TemplateText] { scalars.map { TemplateText(CollectionOfOne($0)) } }

  static func < (a: TemplateText, b: TemplateText) -> Bool {
    a.utf8.lexicographicallyPrecedes(b.utf8)
  }

  func contains(_ needle: TemplateText) -> Bool {
    Self.firstOffset(of: needle.utf8, in: utf8) != nil
  }

  /// What `str.isspace` and the `\s` of Python's regular expressions call white space.
  static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 9...13, 28...32, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F,
      0x3000:
      true
    default: false
    }
  }
}
