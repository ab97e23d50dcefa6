/// The steps that cut a text into words before byte pair encoding.
///
/// A `Sequence` is flattened. The last step is always ByteLevel: only it turns text into the bytes
/// that the vocabulary spells.
struct PreTokenizer: Sendable {
  enum Step: Sendable {
    /// Cuts out every numeric character (general categories Nd, Nl, No), or every run of them.
    case digits(individual: Bool)
    case split(Splitter)
    /// Puts a blank before every part that does not begin with one.
    case prefixBlank
  }

  let steps: [Step]

  /// A stretch of the text that is still text, or an added token found in it.
  struct Part: Sendable {
    var range: Range<Int>
    /// Id of the added token; -1 for text.
    var id: TokenID = -1

    @inline(__always) var isText: Bool { id < 0 }
  }

  /// Cuts the text parts of `text`, valid UTF-8; the parts that come back may lie in another text,
  /// which takes its place. Parts are not empty.
  func split(_ text: inout [UInt8], _ parts: [Part]) throws(TokenizerError) -> [Part] {
    var parts = parts
    for step in steps {
      switch step {
      case .digits(let individual): parts = Self.cutDigits(text, parts, individual)
      case .split(let splitter): parts = try splitter.split(text, parts)
      case .prefixBlank: (text, parts) = Self.prefixBlank(text, parts)
      }
    }
    return parts
  }

  private static func cutDigits(_ text: [UInt8], _ parts: [Part], _ individual: Bool) -> [Part] {
    var result: [Part] = []
    result.reserveCapacity(parts.count)
    text.withUnsafeBufferPointer { text in
      for part in parts {
        guard part.isText else {
          result.append(part)
          continue
        }
        var start = part.range.lowerBound
        var at = start
        var wasNumeric = false
        while at < part.range.upperBound {
          let (isNumeric, length) = numeric(in: text, at: at)
          if at > start, isNumeric != wasNumeric || (isNumeric && individual) {
            result.append(Part(range: start..<at))
            start = at
          }
          wasNumeric = isNumeric
          at += length
        }
        if start < at { result.append(Part(range: start..<at)) }
      }
    }
    return result
  }

  /// Whether the scalar at `offset` is numeric as Rust's `char::is_numeric` has it.
  @inline(__always)
  private static func numeric(
    in text: UnsafeBufferPointer<UInt8>, at offset: Int
  ) -> (Bool, length: Int) {
    let byte = text[offset]
    if byte < 0x80 { return (byte >= 0x30 && byte <= 0x39, 1) }
    let (scalar, length) = UTF8Text.scalar(in: text, at: offset)
    switch scalar.properties.generalCategory {
    case .decimalNumber, .letterNumber, .otherNumber: return (true, length)
    default: return (false, length)
    }
  }

  private static func prefixBlank(_ text: [UInt8], _ parts: [Part]) -> ([UInt8], [Part]) {
    let blank = UInt8(ascii: " ")
    var newText: [UInt8] = []
    newText.reserveCapacity(text.count + parts.count)
    let newParts = parts.map { part in
      guard part.isText else { return part }
      let start = newText.count
      if text[part.range.lowerBound] != blank { newText.append(blank) }
      newText.append(contentsOf: text[part.range])
      return Part(range: start..<newText.count)
    }
    return (newText, newParts)
  }
}
