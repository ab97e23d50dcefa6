/// Decodes the escapes of a string in a template as Jinja does: by Python's `unicode-escape` codec,
/// after characters beyond ASCII were written as escapes themselves.
struct TemplateEscapes {
  private let source: ArraySlice<Unicode.Scalar>
  private let line: Int
  private var index: Int
  private var result = String.UnicodeScalarView()

  init(_ source: ArraySlice<Unicode.Scalar>, line: Int) {
    self.source = source
    self.line = line
    index = source.startIndex
  }

  mutating func decode() throws(TemplateError) -> TemplateText {
    while index < source.endIndex {
      let character = source[index]
      index += 1
      if character == "\\", index < source.endIndex {
        try decodeEscape()
      } else {
        result.append(character)
      }
    }
    return TemplateText(String(result))
  }

  private mutating func decodeEscape() throws(TemplateError) {
    let character = source[index]
    index += 1
    switch character {
    case "\n": break
    case "\\", "'", "\"": result.append(character)
    case "a": result.append("\u{07}")
    case "b": result.append("\u{08}")
    case "f": result.append("\u{0C}")
    case "n": result.append("\n")
    case "r": result.append("\r")
    case "t": result.append("\t")
    case "v": result.append("\u{0B}")
    case "0"..."7":
      index -= 1
      try append(number(radix: 8, atMost: 3))
    case "x": try append(number(radix: 16, exactly: 2))
    case "u": try append(number(radix: 16, exactly: 4))
    case "U": try append(number(radix: 16, exactly: 8))
    case "N": throw TemplateError("the escape \\N is not supported", line: line)
    default:
      result.append("\\")
      if character.isASCII {
        result.append(character)
      } else {
        // The backslash takes that of the escape the character was written as.
        let digits = String(character.value, radix: 16)
        let (letter, width) =
          character.value < 0x100 ? ("x", 2) : character.value < 0x10000 ? ("u", 4) : ("U", 8)
        result.append(contentsOf: letter.unicodeScalars)
        result.append(
          contentsOf: (String(repeating: "0", count: width - digits.count) + digits).unicodeScalars)
      }
    }
  }

  private mutating func number(radix: UInt32, exactly: Int) throws(TemplateError) -> UInt32 {
    let start = index
    let value = number(radix: radix, atMost: exactly)
    guard index - start == exactly else {
      throw TemplateError("an escape in a string is incomplete", line: line)
    }
    return value
  }

  private mutating func number(radix: UInt32, atMost: Int) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<atMost {
      guard index < source.endIndex, source[index].isASCII,
        let digit = Character(source[index]).hexDigitValue.map(UInt32.init), digit < radix
      else { break }
      value = value &* radix &+ digit
      index += 1
    }
    return value
  }

  private mutating func append(_ value: UInt32) throws(TemplateError) {
    guard let scalar = Unicode.Scalar(value) else {
      throw TemplateError("an escape in a string is no Unicode scalar", line: line)
    }
    result.append(scalar)
  }
}
