/// Reads JSON front to back over borrowed bytes, building only what the caller asks for.
///
/// Large documents (a tokenizer.json holds some 300,000 strings) are read without an intermediate
/// tree; small ones with ``value()``. The scanner never reads outside `bytes` and never traps,
/// whatever they hold. It must not outlive the buffer.
public struct JSONScanner {
  /// Levels of nesting that are read; deeper documents are an error.
  public static let maximumDepth = 128

  private let bytes: UnsafeBufferPointer<UInt8>
  /// Byte offset of the next character to read.
  public private(set) var offset = 0
  private var depth = 0

  /// Scans `bytes`, which must outlive the scanner.
  public init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

  /// The kind of the value that comes next.
  public enum Kind: Sendable { case object, array, string, number, bool, null }

  /// The kind of the next value, which stays unread.
  public mutating func peek() throws(JSONError) -> Kind {
    switch try nextCharacter() {
    case UInt8(ascii: "{"): return .object
    case UInt8(ascii: "["): return .array
    case UInt8(ascii: "\""): return .string
    case UInt8(ascii: "t"), UInt8(ascii: "f"): return .bool
    case UInt8(ascii: "n"): return .null
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number
    default: throw JSONError("expected a value", at: offset)
    }
  }

  /// Requires that nothing but white space is left.
  public mutating func end() throws(JSONError) {
    skipWhiteSpace()
    if offset < bytes.count { throw JSONError("unexpected text after the document", at: offset) }
  }

  /// Calls `member` with every key; it must read exactly one value. Duplicate keys are the caller's
  /// to refuse (``value()`` does).
  public mutating func object(
    _ member: (_ scanner: inout JSONScanner, _ key: String) throws -> Void
  ) throws {
    try enter(UInt8(ascii: "{"), "expected an object")
    defer { depth -= 1 }
    if try consume(UInt8(ascii: "}")) { return }
    repeat {
      let key = try string()
      guard try consume(UInt8(ascii: ":")) else {
        throw JSONError("expected ':' after a key", at: offset)
      }
      try member(&self, key)
    } while try consume(UInt8(ascii: ","))
    guard try consume(UInt8(ascii: "}")) else {
      throw JSONError("expected ',' or '}' in an object", at: offset)
    }
  }

  /// Calls `element` for every element; it must read exactly one value.
  public mutating func array(_ element: (_ scanner: inout JSONScanner) throws -> Void) throws {
    try enter(UInt8(ascii: "["), "expected an array")
    defer { depth -= 1 }
    if try consume(UInt8(ascii: "]")) { return }
    repeat { try element(&self) } while try consume(UInt8(ascii: ","))
    guard try consume(UInt8(ascii: "]")) else {
      throw JSONError("expected ',' or ']' in an array", at: offset)
    }
  }

  /// Reads a string, its escapes resolved.
  public mutating func string() throws(JSONError) -> String {
    let range = try rawString()
    let raw = UnsafeBufferPointer(rebasing: bytes[range.bounds])
    if !range.escaped {
      guard let text = String(validating: raw, as: UTF8.self) else {
        throw JSONError("a string is not valid UTF-8", at: range.bounds.lowerBound)
      }
      return text
    }
    let unescaped = try unescape(range.bounds)
    guard let text = String(validating: unescaped, as: UTF8.self) else {
      throw JSONError("a string is not valid UTF-8", at: range.bounds.lowerBound)
    }
    return text
  }

  /// A whole number in the range of `Int`.
  public mutating func integer() throws(JSONError) -> Int {
    let start = offset
    guard case .integer(let value) = try number() else {
      throw JSONError("expected a whole number", at: start)
    }
    return value
  }

  /// Reads `true` or `false`.
  public mutating func bool() throws(JSONError) -> Bool {
    switch try nextCharacter() {
    case UInt8(ascii: "t"):
      try literal("true")
      return true
    case UInt8(ascii: "f"):
      try literal("false")
      return false
    default: throw JSONError("expected true or false", at: offset)
    }
  }

  /// Reads `null`.
  public mutating func null() throws(JSONError) {
    _ = try nextCharacter()
    try literal("null")
  }

  /// The next value as a tree; duplicate keys are an error.
  public mutating func value() throws(JSONError) -> JSONValue {
    switch try peek() {
    case .null:
      try null()
      return .null
    case .bool: return .bool(try bool())
    case .number: return try number()
    case .string: return .string(try string())
    case .array:
      var elements: [JSONValue] = []
      try rethrowing { scanner in try scanner.array { elements.append(try $0.value()) } }
      return .array(elements)
    case .object:
      var object = JSONObject()
      try rethrowing { scanner in
        try scanner.object { scanner, key in
          let start = scanner.offset
          guard object[key] == nil else { throw JSONError("duplicate key \"\(key)\"", at: start) }
          object[key] = try scanner.value()
        }
      }
      return .object(object)
    }
  }

  /// Passes over the next value, checking only its form.
  public mutating func skip() throws(JSONError) {
    switch try peek() {
    case .null: try null()
    case .bool: _ = try bool()
    case .number: _ = try number()
    case .string: _ = try string()
    case .array: try rethrowing { scanner in try scanner.array { try $0.skip() } }
    case .object:
      try rethrowing { scanner in try scanner.object { scanner, _ in try scanner.skip() } }
    }
  }

  // MARK: - Characters

  private mutating func skipWhiteSpace() {
    while offset < bytes.count {
      switch bytes[offset] {
      case 0x20, 0x09, 0x0A, 0x0D: offset += 1
      default: return
      }
    }
  }

  private mutating func nextCharacter() throws(JSONError) -> UInt8 {
    skipWhiteSpace()
    guard offset < bytes.count else { throw JSONError("unexpected end", at: offset) }
    return bytes[offset]
  }

  private mutating func consume(_ character: UInt8) throws(JSONError) -> Bool {
    guard try nextCharacter() == character else { return false }
    offset += 1
    return true
  }

  private mutating func enter(_ bracket: UInt8, _ reason: String) throws(JSONError) {
    guard try consume(bracket) else { throw JSONError(reason, at: offset) }
    depth += 1
    if depth > Self.maximumDepth { throw JSONError("nested too deeply", at: offset) }
  }

  private mutating func literal(_ text: StaticString) throws(JSONError) {
    let count = text.utf8CodeUnitCount
    guard bytes.count - offset >= count,
      (0..<count).allSatisfy({ bytes[offset + $0] == text.utf8Start[$0] })
    else { throw JSONError("expected \(text)", at: offset) }
    offset += count
  }

  /// `object` and `array` are untyped so that callers may throw what they like; here only
  /// `JSONError` can come out.
  private mutating func rethrowing(
    _ body: (inout JSONScanner) throws -> Void
  ) throws(JSONError) {
    do {
      try body(&self)
    } catch let error as JSONError {
      throw error
    } catch {
      throw JSONError("\(error)", at: offset)
    }
  }

  // MARK: - Strings

  /// Bounds of the text between the quotes, and whether it holds escapes.
  private mutating func rawString() throws(JSONError) -> (bounds: Range<Int>, escaped: Bool) {
    guard try consume(UInt8(ascii: "\"")) else { throw JSONError("expected a string", at: offset) }
    let start = offset
    var escaped = false
    while offset < bytes.count {
      switch bytes[offset] {
      case UInt8(ascii: "\""):
        offset += 1
        return (start..<offset - 1, escaped)
      case UInt8(ascii: "\\"):
        escaped = true
        offset += 2
      case 0..<0x20: throw JSONError("a control character in a string", at: offset)
      default: offset += 1
      }
    }
    throw JSONError("a string does not end", at: start)
  }

  private func unescape(_ range: Range<Int>) throws(JSONError) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(range.count)
    var at = range.lowerBound
    while at < range.upperBound {
      guard bytes[at] == UInt8(ascii: "\\") else {
        result.append(bytes[at])
        at += 1
        continue
      }
      at += 1  // rawString guarantees one more character
      switch bytes[at] {
      case UInt8(ascii: "n"): result.append(0x0A)
      case UInt8(ascii: "t"): result.append(0x09)
      case UInt8(ascii: "r"): result.append(0x0D)
      case UInt8(ascii: "b"): result.append(0x08)
      case UInt8(ascii: "f"): result.append(0x0C)
      case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): result.append(bytes[at])
      case UInt8(ascii: "u"):
        let (scalar, next) = try unicodeEscape(after: at + 1, end: range.upperBound)
        result.append(contentsOf: String(scalar).utf8)
        at = next
        continue
      default: throw JSONError("an unknown escape", at: at)
      }
      at += 1
    }
    return result
  }

  /// `\uXXXX` or a surrogate pair of them, from the first digit on.
  private func unicodeEscape(
    after start: Int, end: Int
  ) throws(JSONError) -> (Unicode.Scalar, next: Int) {
    let high = try hexadecimal(at: start, end: end)
    if let scalar = Unicode.Scalar(high) { return (scalar, start + 4) }
    guard high < 0xDC00, end - start >= 10, bytes[start + 4] == UInt8(ascii: "\\"),
      bytes[start + 5] == UInt8(ascii: "u")
    else { throw JSONError("half a surrogate pair", at: start) }
    let low = try hexadecimal(at: start + 6, end: end)
    guard (0xDC00..<0xE000).contains(low),
      let scalar = Unicode.Scalar(0x10000 + (high - 0xD800) << 10 + (low - 0xDC00))
    else { throw JSONError("half a surrogate pair", at: start) }
    return (scalar, start + 10)
  }

  private func hexadecimal(at start: Int, end: Int) throws(JSONError) -> UInt32 {
    guard end - start >= 4 else { throw JSONError("an incomplete \\u escape", at: start) }
    var value: UInt32 = 0
    for at in start..<start + 4 {
      let digit: UInt32
      switch bytes[at] {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = UInt32(bytes[at]) - 0x30
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = UInt32(bytes[at]) - 0x57
      case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = UInt32(bytes[at]) - 0x37
      default: throw JSONError("an incomplete \\u escape", at: at)
      }
      value = value << 4 | digit
    }
    return value
  }

  // MARK: - Numbers

  private mutating func number() throws(JSONError) -> JSONValue {
    _ = try nextCharacter()
    let start = offset
    var whole = true
    if bytes[offset] == UInt8(ascii: "-") { offset += 1 }
    let first = offset
    guard digits() > 0 else { throw JSONError("expected a number", at: start) }
    if bytes[first] == UInt8(ascii: "0"), offset > first + 1 {
      throw JSONError("a number begins with a superfluous 0", at: start)
    }
    if offset < bytes.count, bytes[offset] == UInt8(ascii: ".") {
      whole = false
      offset += 1
      guard digits() > 0 else { throw JSONError("expected digits after '.'", at: offset) }
    }
    if offset < bytes.count, bytes[offset] | 0x20 == UInt8(ascii: "e") {
      whole = false
      offset += 1
      if offset < bytes.count, [UInt8(ascii: "+"), UInt8(ascii: "-")].contains(bytes[offset]) {
        offset += 1
      }
      guard digits() > 0 else { throw JSONError("expected digits in the exponent", at: offset) }
    }
    let text = String(decoding: bytes[start..<offset], as: UTF8.self)
    if whole, let value = Int(text) { return .integer(value) }
    guard let value = Double(text), value.isFinite else {
      throw JSONError("a number out of range", at: start)
    }
    return .double(value)
  }

  private mutating func digits() -> Int {
    let start = offset
    while offset < bytes.count, (0x30...0x39).contains(bytes[offset]) { offset += 1 }
    return offset - start
  }
}
