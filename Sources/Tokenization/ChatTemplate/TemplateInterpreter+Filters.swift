extension TemplateInterpreter {
  /// The filters that are supported. Those that are lazy in Python give an iterator here too.
  enum Filter: String {
    case abs, capitalize, count, d, `default`, dictsort, first, float, indent, int, items, join
    case last, length, list, lower, map, max, min, reject, rejectattr, replace, reverse, safe
    case select, selectattr, sort, string, sum, title, tojson, trim, unique, upper
  }

  mutating func filter(
    _ name: String, _ value: TemplateValue, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    guard let filter = Filter(rawValue: name) else {
      throw failure("the filter '\(name)' is not supported")
    }
    switch filter {
    case .tojson: return try json(value, call)
    case .d, .default:
      let bound = try bind(call, name, ["default_value", "boolean"])
      var isMissing = value.isUndefined
      if !isMissing, let flag = bound[1], try isTrue(flag) { isMissing = !(try isTrue(value)) }
      return isMissing ? bound[0] ?? .text("") : value
    case .string, .safe, .upper, .lower, .title, .capitalize, .trim, .replace, .indent:
      return try self.filter(text: filter, value, call)
    case .abs, .int, .float, .sum: return try self.filter(number: filter, value, call)
    default: return try self.filter(sequence: filter, value, call)
    }
  }

  // MARK: - Text

  private mutating func filter(
    text filter: Filter, _ value: TemplateValue, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    let name = filter.rawValue
    switch filter {
    case .trim:
      let bound = try bind(call, name, ["chars"])
      return .string(
        try strip(try string(value), bound[0] ?? .none, start: true, end: true))
    case .replace:
      let bound = try bind(call, name, ["old", "new", "count"], required: 2)
      var limit = -1
      if let count = bound[2] {
        if case .none = count {} else { limit = try integer(count, "'replace'") }
      }
      return .string(
        try replace(
          try string(bound[0]!), by: try string(bound[1]!), in: try string(value), atMost: limit))
    case .indent: return try indent(value, call)
    default: break
    }
    _ = try bind(call, name, [])
    let text = try string(value)
    try charge(text.utf8.count)
    switch filter {
    case .upper: return try self.text(text.uppercased.utf8)
    case .lower: return try self.text(text.lowercased.utf8)
    case .capitalize: return try self.text(text.capitalized.utf8)
    case .title: return try self.text(text.wordsCapitalized.utf8)
    default: return .string(text)
    }
  }

  private mutating func indent(
    _ value: TemplateValue, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    let bound = try bind(call, "indent", ["width", "first", "blank"])
    guard case .string(let text) = value else { throw unsuitable(value, "'indent'") }
    var indent: [UInt8] = [0x20, 0x20, 0x20, 0x20]
    if case .string(let text) = bound[0] {
      indent = text.utf8
    } else if let width = bound[0] {
      let count = max(try integer(width, "'indent'"), 0)
      try charge(count)
      indent = Array(repeating: 0x20, count: count)
    }
    var first = false
    var blank = false
    if let flag = bound[1] { first = try isTrue(flag) }
    if let flag = bound[2] { blank = try isTrue(flag) }
    // Python appends a line break first, so that an empty text is one line.
    try charge(text.utf8.count, times: 2)
    let lines = TemplateText(utf8: text.utf8 + [0x0A]).lines(keepingEnds: false)
    try charge(lines.count, times: indent.count + TemplateLimits.elementBytes)
    var bytes: [UInt8] = first ? indent : []
    for (index, line) in lines.enumerated() {
      if index > 0 {
        bytes.append(0x0A)
        if blank || !line.isEmpty { bytes += indent }
      }
      bytes += line.utf8
    }
    return .string(TemplateText(utf8: bytes))
  }

  // MARK: - Numbers

  private mutating func filter(
    number filter: Filter, _ value: TemplateValue, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    switch filter {
    case .abs:
      _ = try bind(call, "abs", [])
      switch number(value) {
      case .integer(let number): return number < 0 ? try negate(.integer(number)) : .integer(number)
      case .double(let number): return .double(number.magnitude)
      case nil: throw unsuitable(value, "'abs'")
      }
    case .int:
      let bound = try bind(call, "int", ["default", "base"])
      var base = 10
      if let value = bound[1] { base = try integer(value, "'int'") }
      return try toInteger(value, base: base) ?? bound[0] ?? .integer(0)
    case .float:
      let bound = try bind(call, "float", ["default"])
      return try toDouble(value).map { .double($0) } ?? bound[0] ?? .double(0)
    default:
      let bound = try bind(call, "sum", ["attribute", "start"])
      var sum = bound[1] ?? .integer(0)
      if case .string = sum { throw failure("'sum' does not join strings") }
      let path = try attributePath(bound[0] ?? .none)
      for element in try elements(of: value) {
        sum = try calculate(sum, .add, try follow(path, from: element))
      }
      return sum
    }
  }

  /// Python's `int(value)`, or of the float that the value is or spells; nil where neither works.
  private mutating func toInteger(
    _ value: TemplateValue, base: Int
  ) throws(TemplateError) -> TemplateValue? {
    let double: Double
    switch value {
    case .undefined(let message): throw failure(message)
    case .bool(let flag): return .integer(flag ? 1 : 0)
    case .integer: return value
    case .double(let number):
      if number.isInfinite { throw failure("'int' of an infinite number") }
      double = number
    case .string(let text):
      try charge(text.utf8.count)
      switch TemplateNumbers.integer(text, base: base) {
      case .value(let number): return .integer(number)
      case .overflow: throw failure("integer overflow in 'int'")
      case .invalid: break
      }
      guard let number = TemplateNumbers.double(text), number.isFinite else { return nil }
      double = number
    default: return nil
    }
    if double.isNaN { return nil }
    guard let number = Int(exactly: double.rounded(.towardZero)) else {
      throw failure("integer overflow in 'int'")
    }
    return .integer(number)
  }

  private mutating func toDouble(_ value: TemplateValue) throws(TemplateError) -> Double? {
    switch value {
    case .undefined(let message): throw failure(message)
    case .string(let text):
      try charge(text.utf8.count)
      return TemplateNumbers.double(text)
    default: return number(value)?.double
    }
  }
}

/// Numbers as Python reads them from strings.
enum TemplateNumbers {
  enum Result { case value(Int), overflow, invalid }

  /// `int(text, base)`.
  static func integer(_ text: TemplateText, base: Int) -> Result {
    guard base == 0 || (2...36).contains(base) else { return .invalid }
    var digits = stripped(text)[...]
    var negative = false
    if let sign = digits.first, sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") {
      negative = sign == UInt8(ascii: "-")
      digits = digits.dropFirst()
    }
    var radix = base == 0 ? 10 : base
    if digits.first == UInt8(ascii: "0"), let mark = digits.dropFirst().first,
      let prefixed = [UInt8(ascii: "b"): 2, UInt8(ascii: "o"): 8, UInt8(ascii: "x"): 16][
        mark | 0x20],
      base == 0 || base == prefixed
    {
      radix = prefixed
      digits = digits.dropFirst(2)
      if digits.first == UInt8(ascii: "_") { digits = digits.dropFirst() }
    } else if base == 0, digits.first == UInt8(ascii: "0"),
      digits.contains(where: { $0 != UInt8(ascii: "0") && $0 != UInt8(ascii: "_") })
    {
      return .invalid
    }
    guard let plain = withoutUnderscores(digits), plain.allSatisfy({ digit($0) < radix }) else {
      return .invalid
    }
    let spelled = (negative ? "-" : "") + String(decoding: plain, as: UTF8.self)
    return Int(spelled, radix: radix).map { .value($0) } ?? .overflow
  }

  private static func digit(_ byte: UInt8) -> Int {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): Int(byte) - 0x30
    case UInt8(ascii: "a")...UInt8(ascii: "z"): Int(byte) - 0x57
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): Int(byte) - 0x37
    default: .max
    }
  }

  /// `float(text)`.
  static func double(_ text: TemplateText) -> Double? {
    guard let bytes = withoutUnderscores(stripped(text)[...]) else { return nil }
    let spelled = String(decoding: bytes, as: UTF8.self).lowercased()
    let unsigned = spelled.first == "-" || spelled.first == "+" ? spelled.dropFirst() : spelled[...]
    if unsigned == "inf" || unsigned == "infinity" || unsigned == "nan" { return Double(spelled) }
    guard spelled.utf8.allSatisfy({ "0123456789+-.e".utf8.contains($0) }) else { return nil }
    // Swift wants a digit on both sides of the point, Python on one.
    var padded = ""
    for character in unsigned {
      if character == ".", padded.isEmpty { padded = "0" }
      if character == "e", padded.last == "." { padded += "0" }
      padded.append(character)
    }
    if padded.last == "." { padded += "0" }
    guard unsigned != ".", !unsigned.hasPrefix(".e"),
      unsigned.first?.isNumber == true || unsigned.first == "."
    else { return nil }
    return Double(padded).map { spelled.first == "-" ? -$0 : $0 }
  }

  private static func stripped(_ text: TemplateText) -> [UInt8] {
    var scalars = text.scalars[...].drop(while: TemplateText.isSpace)
    while let last = scalars.last, TemplateText.isSpace(last) { scalars.removeLast() }
    return TemplateText(scalars).utf8
  }

  /// Nil where an underscore does not stand between two digits, and where nothing is left.
  private static func withoutUnderscores(_ bytes: ArraySlice<UInt8>) -> [UInt8]? {
    var result: [UInt8] = []
    var previous: UInt8 = 0
    for byte in bytes {
      if byte == UInt8(ascii: "_") {
        guard digit(previous) < 36 else { return nil }
      } else {
        guard previous != UInt8(ascii: "_") || digit(byte) < 36 else { return nil }
        result.append(byte)
      }
      previous = byte
    }
    return result.isEmpty || previous == UInt8(ascii: "_") ? nil : result
  }
}

extension TemplateText {
  /// The filter `title`: words, which begin after white space and any of `-({[<`, capitalized.
  var wordsCapitalized: TemplateText {
    let openers: Set<Unicode.Scalar> = ["-", "(", "{", "[", "<"]
    var result = ""
    var word: [Unicode.Scalar] = []
    func end() {
      guard let first = word.first else { return }
      result += first.properties.uppercaseMapping
      result += TemplateText(word.dropFirst()).lowercased.string
      word = []
    }
    for scalar in scalars {
      if openers.contains(scalar) || Self.isSpace(scalar) {
        end()
        result.unicodeScalars.append(scalar)
      } else {
        word.append(scalar)
      }
    }
    end()
    return TemplateText(result)
  }
}
