extension TemplateInterpreter {
  /// Python's `str(value)`.
  mutating func string(_ value: TemplateValue) throws(TemplateError) -> TemplateText {
    if case .string(let text) = value { return text }
    var bytes: [UInt8] = []
    try write(value, to: &bytes)
    return TemplateText(utf8: bytes)
  }

  /// Appends Python's `str(value)`.
  mutating func write(
    _ value: TemplateValue, to bytes: inout [UInt8]
  ) throws(TemplateError) {
    switch value {
    case .string(let text):
      try charge(text.utf8.count)
      bytes += text.utf8
    case .undefined: break
    default: try writeRepresentation(value, to: &bytes)
    }
  }

  /// Appends Python's `repr(value)`.
  private mutating func writeRepresentation(
    _ value: TemplateValue, to bytes: inout [UInt8]
  ) throws(TemplateError) {
    try step()
    let text: String
    switch value {
    case .undefined: text = "Undefined"
    case .none: text = "None"
    case .bool(let flag): text = flag ? "True" : "False"
    case .integer(let number): text = "\(number)"
    case .double(let number): text = Self.representation(number)
    case .string(let string):
      let quoted = Self.quoted(string)
      try charge(quoted.count)
      bytes += quoted
      return
    case .array(let list): return try writeSequence(list.elements, "[", "]", to: &bytes)
    case .tuple(let list):
      return try writeSequence(
        list.elements, "(", list.elements.count == 1 ? ",)" : ")", to: &bytes)
    case .object(let object):
      return try writeEntries(object.keys, object.values, to: &bytes)
    case .view(let object, let view):
      bytes += Array(view.rawValue.utf8)
      return try writeSequence(object.elements(view), "([", "])", to: &bytes)
    case .range(let range):
      text =
        range.step == 1
        ? "range(\(range.start), \(range.stop))"
        : "range(\(range.start), \(range.stop), \(range.step))"
    case .namespace(let index):
      // A namespace may hold itself.
      try descend()
      bytes += Array("<Namespace ".utf8)
      try writeEntries(namespaces[index].keys, namespaces[index].values, to: &bytes)
      bytes += Array(">".utf8)
      depth -= 1
      return
    case .macro(let index): text = "<Macro '\(macros[index].definition.name)'>"
    case .loop(let index):
      text = "<LoopContext \(loops[index].index + 1)/\(try length(ofLoop: index))>"
    case .iterator, .function, .method:
      throw failure("a value of type '\(value.typeName)' cannot be printed")
    }
    try charge(text.utf8.count)
    bytes += Array(text.utf8)
  }

  private mutating func writeSequence(
    _ elements: [TemplateValue], _ open: String, _ close: String, to bytes: inout [UInt8]
  ) throws(TemplateError) {
    try charge(elements.count, times: 2)
    bytes += Array(open.utf8)
    for (index, element) in elements.enumerated() {
      if index > 0 { bytes += [0x2C, 0x20] }
      try writeRepresentation(element, to: &bytes)
    }
    bytes += Array(close.utf8)
  }

  private mutating func writeEntries(
    _ keys: [TemplateValue], _ values: [TemplateValue], to bytes: inout [UInt8]
  ) throws(TemplateError) {
    try charge(keys.count, times: 4)
    bytes.append(UInt8(ascii: "{"))
    for index in keys.indices {
      if index > 0 { bytes += [0x2C, 0x20] }
      try writeRepresentation(keys[index], to: &bytes)
      bytes += [0x3A, 0x20]
      try writeRepresentation(values[index], to: &bytes)
    }
    bytes.append(UInt8(ascii: "}"))
  }

  /// Python's `repr` of a float: the shortest digits that read back, with an exponent from 1e16 on
  /// and below 1e-4.
  static func representation(_ value: Double) -> String {
    if value.isNaN { return "nan" }
    if value.isInfinite { return value < 0 ? "-inf" : "inf" }
    // Swift finds the same digits, and places the point by other rules.
    let parts = "\(value.magnitude)".split(separator: "e")
    let mantissa = parts[0].split(separator: ".", omittingEmptySubsequences: false)
    var digits = Array((mantissa[0] + (mantissa.count > 1 ? mantissa[1] : "")).utf8)
    var point = mantissa[0].utf8.count + (parts.count > 1 ? Int(parts[1]) ?? 0 : 0)
    while digits.count > 1, digits.first == UInt8(ascii: "0") {
      digits.removeFirst()
      point -= 1
    }
    while digits.count > 1, digits.last == UInt8(ascii: "0") { digits.removeLast() }
    let text = String(decoding: digits, as: UTF8.self)
    let sign = value.sign == .minus ? "-" : ""
    if text == "0" { return sign + "0.0" }
    if point > 16 || point < -3 {
      let exponent = point - 1
      let size = exponent.magnitude
      let fraction = digits.count > 1 ? "." + text.dropFirst() : ""
      return sign + text.prefix(1) + fraction + (exponent < 0 ? "e-" : "e+")
        + (size < 10 ? "0" : "") + "\(size)"
    }
    if point <= 0 { return sign + "0." + String(repeating: "0", count: -point) + text }
    if digits.count <= point {
      return sign + text + String(repeating: "0", count: point - digits.count) + ".0"
    }
    return sign + text.prefix(point) + "." + text.dropFirst(point)
  }

  /// Python's `repr` of a string.
  static func quoted(_ text: TemplateText) -> [UInt8] {
    let hasSingle = text.utf8.contains(UInt8(ascii: "'"))
    let hasDouble = text.utf8.contains(UInt8(ascii: "\""))
    let quote: Unicode.Scalar = hasSingle && !hasDouble ? "\"" : "'"
    var result = String.UnicodeScalarView()
    result.append(quote)
    for scalar in text.scalars {
      switch scalar {
      case quote, "\\":
        result.append("\\")
        result.append(scalar)
      case "\n": result.append(contentsOf: "\\n".unicodeScalars)
      case "\r": result.append(contentsOf: "\\r".unicodeScalars)
      case "\t": result.append(contentsOf: "\\t".unicodeScalars)
      default:
        if isPrintable(scalar) {
          result.append(scalar)
        } else {
          let (letter, width) =
            scalar.value < 0x100 ? ("x", 2) : scalar.value < 0x10000 ? ("u", 4) : ("U", 8)
          result.append(contentsOf: "\\\(letter)\(hexadecimal(scalar.value, width))".unicodeScalars)
        }
      }
    }
    result.append(quote)
    return Array(String(result).utf8)
  }

  static func hexadecimal(_ value: UInt32, _ width: Int) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: max(width - digits.count, 0)) + digits
  }

  /// `str.isprintable` of one code point.
  private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.isASCII { return (0x20..<0x7F).contains(scalar.value) }
    switch scalar.properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator,
      .paragraphSeparator, .spaceSeparator:
      return false
    default: return true
    }
  }
}
