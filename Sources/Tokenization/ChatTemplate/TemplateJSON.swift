/// How `tojson` writes, with the meaning of the arguments of Python's `json.dumps`.
struct TemplateJSONStyle {
  var ensureASCII = false
  /// What each level is indented by; nil writes one line.
  var indent: [UInt8]?
  var itemSeparator = Array(", ".utf8)
  var keySeparator = Array(": ".utf8)
  var sortKeys = false
}

extension TemplateInterpreter {
  mutating func json(_ value: TemplateValue, _ call: TemplateCall) throws(TemplateError)
    -> TemplateValue
  {
    let bound = try bind(call, "tojson", ["ensure_ascii", "indent", "separators", "sort_keys"])
    var style = TemplateJSONStyle()
    if let flag = bound[0] { style.ensureASCII = try isTrue(flag) }
    switch bound[1] {
    case nil, .some(.none): break
    case .string(let text): style.indent = text.utf8
    case .some(let width):
      let count = max(try integer(width, "'indent' of 'tojson'"), 0)
      try charge(count)
      style.indent = Array(repeating: 0x20, count: count)
    }
    if style.indent != nil { style.itemSeparator = [UInt8(ascii: ",")] }
    if let separators = bound[2], case .some(let parts) = try separatorParts(separators) {
      (style.itemSeparator, style.keySeparator) = parts
    }
    if let flag = bound[3] { style.sortKeys = try isTrue(flag) }
    var bytes: [UInt8] = []
    try write(value, style, level: 0, to: &bytes)
    return .string(TemplateText(utf8: bytes))
  }

  private mutating func separatorParts(
    _ value: TemplateValue
  ) throws(TemplateError) -> (item: [UInt8], key: [UInt8])? {
    if case .none = value { return nil }
    let parts = try elements(of: value)
    guard parts.count == 2, case .string(let item) = parts[0], case .string(let key) = parts[1]
    else { throw failure("'separators' of 'tojson' needs two strings") }
    return (item.utf8, key.utf8)
  }

  private mutating func write(
    _ value: TemplateValue, _ style: TemplateJSONStyle, level: Int, to bytes: inout [UInt8]
  ) throws(TemplateError) {
    try step()
    switch value {
    case .none: bytes += Array("null".utf8)
    case .bool(let flag): bytes += Array((flag ? "true" : "false").utf8)
    case .integer(let number): bytes += Array("\(number)".utf8)
    case .double(let number): bytes += Array(Self.jsonNumber(number).utf8)
    case .string(let text): try writeString(text, style, to: &bytes)
    case .array(let list), .tuple(let list):
      try writeBracketed("[", "]", list.elements.count, style, level, to: &bytes) {
        interpreter, index, bytes throws(TemplateError) in
        try interpreter.write(list.elements[index], style, level: level + 1, to: &bytes)
      }
    case .object(let object):
      let order = style.sortKeys ? try sortedIndexes(object.keys) : Array(object.keys.indices)
      try writeBracketed("{", "}", order.count, style, level, to: &bytes) {
        interpreter, index, bytes throws(TemplateError) in
        let key = try interpreter.jsonKey(object.keys[order[index]])
        try interpreter.writeString(key, style, to: &bytes)
        bytes += style.keySeparator
        try interpreter.write(object.values[order[index]], style, level: level + 1, to: &bytes)
      }
    default: throw unsuitable(value, "'tojson'")
    }
  }

  private mutating func writeBracketed(
    _ open: String, _ close: String, _ count: Int, _ style: TemplateJSONStyle, _ level: Int,
    to bytes: inout [UInt8],
    _ writeElement:
      (inout TemplateInterpreter, Int, inout [UInt8]) throws(TemplateError) -> Void
  ) throws(TemplateError) {
    bytes += Array(open.utf8)
    for index in 0..<count {
      try charge(style.itemSeparator.count + style.keySeparator.count)
      if index > 0 { bytes += style.itemSeparator }
      try breakLine(style, level + 1, to: &bytes)
      try writeElement(&self, index, &bytes)
    }
    if count > 0 { try breakLine(style, level, to: &bytes) }
    bytes += Array(close.utf8)
  }

  private mutating func breakLine(
    _ style: TemplateJSONStyle, _ level: Int, to bytes: inout [UInt8]
  ) throws(TemplateError) {
    guard let indent = style.indent else { return }
    try charge(level + 1, times: indent.count + 1)
    bytes.append(0x0A)
    for _ in 0..<level { bytes += indent }
  }

  private static func jsonNumber(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    return value.isInfinite ? (value < 0 ? "-Infinity" : "Infinity") : representation(value)
  }

  private func jsonKey(_ key: TemplateValue) throws(TemplateError) -> TemplateText {
    switch key {
    case .string(let text): text
    case .integer(let number): TemplateText("\(number)")
    case .double(let number): TemplateText(Self.jsonNumber(number))
    case .bool(let flag): TemplateText(flag ? "true" : "false")
    case .none: TemplateText("null")
    default: throw unsuitable(key, "a key in 'tojson'")
    }
  }

  private mutating func writeString(
    _ text: TemplateText, _ style: TemplateJSONStyle, to bytes: inout [UInt8]
  ) throws(TemplateError) {
    // An escape is at most six times as long as the byte it stands for.
    try charge(text.utf8.count, times: 6)
    bytes.append(UInt8(ascii: "\""))
    if style.ensureASCII, !(text.isASCII && !text.utf8.contains(0x7F)) {
      for unit in text.string.utf16 {
        if unit < 0x7F {
          Self.escape(UInt8(unit), to: &bytes)
        } else {
          bytes += Array("\\u\(Self.hexadecimal(UInt32(unit), 4))".utf8)
        }
      }
    } else {
      for byte in text.utf8 { Self.escape(byte, to: &bytes) }
    }
    bytes.append(UInt8(ascii: "\""))
  }

  private static func escape(_ byte: UInt8, to bytes: inout [UInt8]) {
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
    case 0x0A: bytes += Array("\\n".utf8)
    case 0x0D: bytes += Array("\\r".utf8)
    case 0x09: bytes += Array("\\t".utf8)
    case 0x08: bytes += Array("\\b".utf8)
    case 0x0C: bytes += Array("\\f".utf8)
    case 0..<0x20: bytes += Array("\\u\(hexadecimal(UInt32(byte), 4))".utf8)
    default: bytes.append(byte)
    }
  }
}
