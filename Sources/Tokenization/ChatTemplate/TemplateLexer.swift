/// A piece of template source.
struct TemplateToken: Sendable {
  let kind: Kind
  let line: Int

  enum Kind: Sendable, Equatable {
    case data([UInt8])
    case variableBegin
    case variableEnd
    case blockBegin
    case blockEnd
    case name(String)
    case string(TemplateText)
    case integer(Int)
    case double(Double)
    case symbol(Symbol)
    case end
  }

  enum Symbol: String, Sendable, CaseIterable {
    case floorDivide = "//"
    case power = "**"
    case equal = "=="
    case unequal = "!="
    case greaterOrEqual = ">="
    case lessOrEqual = "<="
    case add = "+"
    case subtract = "-"
    case divide = "/"
    case multiply = "*"
    case remainder = "%"
    case tilde = "~"
    case leftBracket = "["
    case rightBracket = "]"
    case leftParenthesis = "("
    case rightParenthesis = ")"
    case leftBrace = "{"
    case rightBrace = "}"
    case greater = ">"
    case less = "<"
    case assign = "="
    case dot = "."
    case colon = ":"
    case pipe = "|"
    case comma = ","
  }
}

/// Cuts a template into text and the tokens of its tags, with white space already stripped as
/// `trim_blocks`, `lstrip_blocks` and the signs `-` and `+` ask.
struct TemplateLexer {
  private let source: [Unicode.Scalar]
  private var position = 0
  private var line = 1
  private var tokens: [TemplateToken] = []
  /// Whether what was read last ended a line: white space before a tag counts as indentation then.
  private var atLineStart = true

  init(_ text: String) throws(TemplateError) {
    guard text.utf8.count <= TemplateLimits.sourceBytes else {
      throw TemplateError("longer than \(TemplateLimits.sourceBytes) bytes", line: 1)
    }
    var scalars: [Unicode.Scalar] = []
    scalars.reserveCapacity(text.utf8.count)
    var previous: Unicode.Scalar = " "
    for scalar in text.unicodeScalars {
      if scalar == "\n", previous == "\r" {
        // "\r\n" is one line break, written when the "\r" came.
      } else {
        scalars.append(scalar == "\r" ? "\n" : scalar)
      }
      previous = scalar
    }
    if scalars.last == "\n" { scalars.removeLast() }
    source = scalars
  }

  mutating func tokenize() throws(TemplateError) -> [TemplateToken] {
    while position < source.count {
      guard let tag = nextTag(from: position) else {
        emit(data: position..<source.count)
        advance(to: source.count)
        break
      }
      try lexTag(at: tag)
    }
    tokens.append(TemplateToken(kind: .end, line: line))
    return tokens
  }

  // MARK: - Text and the beginnings of tags

  private func scalar(_ index: Int) -> Unicode.Scalar? {
    index < source.count ? source[index] : nil
  }

  private func nextTag(from start: Int) -> Int? {
    var index = start
    while index + 1 < source.count {
      if source[index] == "{", ["%", "{", "#"].contains(source[index + 1]) { return index }
      index += 1
    }
    return nil
  }

  private mutating func lexTag(at tag: Int) throws(TemplateError) {
    let sign = sign(at: tag + 2)
    let kind = source[tag + 1]
    emitText(upTo: tag, sign: sign, indented: kind != "{")
    if kind == "%", let body = rawBegin(at: tag) {
      advance(to: body)
      return try lexRaw()
    }
    advance(to: tag + (sign == nil ? 2 : 3))
    switch kind {
    case "#": try skipComment()
    case "%": try lexTag(begin: .blockBegin, end: .blockEnd, closing: "%")
    default: try lexTag(begin: .variableBegin, end: .variableEnd, closing: "}")
    }
  }

  private func sign(at index: Int) -> Unicode.Scalar? {
    scalar(index) == "-" || scalar(index) == "+" ? source[index] : nil
  }

  /// The text before a tag, without the white space that the tag takes with it.
  private mutating func emitText(upTo tag: Int, sign: Unicode.Scalar?, indented: Bool) {
    var end = tag
    if sign == "-" {
      while end > position, TemplateText.isSpace(source[end - 1]) { end -= 1 }
    } else if sign == nil, indented {
      var start = tag
      while start > position, source[start - 1] != "\n", TemplateText.isSpace(source[start - 1]) {
        start -= 1
      }
      if start == position ? atLineStart : source[start - 1] == "\n" { end = start }
    }
    emit(data: position..<end)
  }

  private mutating func emit(data range: Range<Int>) {
    guard !range.isEmpty else { return }
    let text = TemplateText(source[range])
    tokens.append(TemplateToken(kind: .data(text.utf8), line: line))
  }

  private mutating func advance(to index: Int) {
    for scalar in source[position..<index] where scalar == "\n" { line += 1 }
    if index > position { atLineStart = source[index - 1] == "\n" }
    position = index
  }

  private func skippingSpace(_ start: Int) -> Int {
    var index = start
    while index < source.count, TemplateText.isSpace(source[index]) { index += 1 }
    return index
  }

  private func matches(_ text: String, at index: Int) -> Bool {
    let wanted = text.unicodeScalars
    return index + wanted.count <= source.count && source[index...].starts(with: wanted)
  }

  /// Where a tag that may end at `index` with the signs `-` and `+` and `closing` ends.
  private func tagEnd(at index: Int, closing: String, plus: Bool, trim: Bool) -> Int? {
    if matches("-" + closing, at: index) { return skippingSpace(index + 1 + closing.count) }
    if plus, matches("+" + closing, at: index) { return index + 1 + closing.count }
    guard matches(closing, at: index) else { return nil }
    let end = index + closing.count
    return trim && scalar(end) == "\n" ? end + 1 : end
  }

  // MARK: - Comments and raw blocks

  private mutating func skipComment() throws(TemplateError) {
    var index = position
    while index < source.count {
      if let end = tagEnd(at: index, closing: "#}", plus: true, trim: true) {
        return advance(to: end)
      }
      index += 1
    }
    throw TemplateError("a comment does not end", line: line)
  }

  private func rawBegin(at tag: Int) -> Int? {
    let name = skippingSpace(tag + (sign(at: tag + 2) == nil ? 2 : 3))
    guard matches("raw", at: name) else { return nil }
    return tagEnd(at: skippingSpace(name + 3), closing: "%}", plus: false, trim: false)
  }

  private mutating func lexRaw() throws(TemplateError) {
    let start = line
    var from = position
    while let tag = nextTag(from: from) {
      let sign = sign(at: tag + 2)
      let name = skippingSpace(tag + (sign == nil ? 2 : 3))
      if source[tag + 1] == "%", matches("endraw", at: name),
        let end = tagEnd(at: skippingSpace(name + 6), closing: "%}", plus: true, trim: true)
      {
        emitText(upTo: tag, sign: sign, indented: true)
        return advance(to: end)
      }
      from = tag + 1
    }
    throw TemplateError("a raw block does not end", line: start)
  }

  // MARK: - Inside tags

  private mutating func lexTag(
    begin: TemplateToken.Kind, end: TemplateToken.Kind, closing: String
  ) throws(TemplateError) {
    tokens.append(TemplateToken(kind: begin, line: line))
    var open: [TemplateToken.Symbol] = []
    while position < source.count {
      if open.isEmpty,
        let after = tagEnd(
          at: position, closing: closing + "}", plus: closing == "%", trim: closing == "%")
      {
        tokens.append(TemplateToken(kind: end, line: line))
        return advance(to: after)
      }
      let character = source[position]
      if TemplateText.isSpace(character) {
        advance(to: skippingSpace(position))
      } else if isDigit(position) {
        try lexNumber()
      } else if isNameStart(character) {
        lexName()
      } else if character == "'" || character == "\"" {
        try lexString(quote: character)
      } else {
        try lexSymbol(&open)
      }
    }
    // The parser says what was expected.
  }

  private mutating func lexSymbol(
    _ open: inout [TemplateToken.Symbol]
  ) throws(TemplateError) {
    // Longer symbols come first in the list of cases.
    guard
      let symbol = TemplateToken.Symbol.allCases.first(where: { matches($0.rawValue, at: position) }
      )
    else {
      throw TemplateError("unexpected character '\(source[position])'", line: line)
    }
    switch symbol {
    case .leftBrace: open.append(.rightBrace)
    case .leftBracket: open.append(.rightBracket)
    case .leftParenthesis: open.append(.rightParenthesis)
    case .rightBrace, .rightBracket, .rightParenthesis:
      guard open.popLast() == symbol else {
        throw TemplateError("unexpected '\(symbol.rawValue)'", line: line)
      }
    default: break
    }
    tokens.append(TemplateToken(kind: .symbol(symbol), line: line))
    advance(to: position + symbol.rawValue.count)
  }

  private func isNameStart(_ scalar: Unicode.Scalar) -> Bool {
    scalar == "_"
      || (scalar.isASCII ? scalar.properties.isAlphabetic : scalar.properties.isXIDStart)
  }

  private mutating func lexName() {
    var index = position + 1
    while index < source.count, source[index] == "_" || source[index].properties.isXIDContinue {
      index += 1
    }
    let name = TemplateText(source[position..<index]).string
    tokens.append(TemplateToken(kind: .name(name), line: line))
    advance(to: index)
  }

  // MARK: - Numbers

  private func isDigit(_ index: Int) -> Bool {
    scalar(index).map { ("0"..."9").contains($0) } ?? false
  }

  /// The end of digits from `start` on, between which single underscores may stand; nil if none.
  private func digits(from start: Int, where isDigit: (Int) -> Bool) -> Int? {
    guard isDigit(start) else { return nil }
    var index = start + 1
    while isDigit(index) || (scalar(index) == "_" && isDigit(index + 1)) { index += 1 }
    return index
  }

  private func floatEnd() -> Int? {
    if position > 0, source[position - 1] == "." { return nil }
    guard let whole = digits(from: position, where: isDigit) else { return nil }
    var end = whole
    if scalar(end) == ".", let fraction = digits(from: end + 1, where: isDigit) { end = fraction }
    if scalar(end) == "e" || scalar(end) == "E" {
      let signed = sign(at: end + 1) == nil ? end + 1 : end + 2
      if let exponent = digits(from: signed, where: isDigit) { end = exponent }
    }
    return end == whole ? nil : end
  }

  private mutating func lexNumber() throws(TemplateError) {
    if let end = floatEnd() {
      let text = TemplateText(source[position..<end].filter { $0 != "_" }).string
      tokens.append(TemplateToken(kind: .double(Double(text) ?? .infinity), line: line))
      return advance(to: end)
    }
    let (end, radix) = integerEnd()
    let written = source[position + (radix == 10 ? 0 : 2)..<end].filter { $0 != "_" }
    let text = TemplateText(written).string
    guard let value = Int(text, radix: radix) else {
      throw TemplateError("the integer \(text) is beyond 64 bits", line: line)
    }
    tokens.append(TemplateToken(kind: .integer(value), line: line))
    advance(to: end)
  }

  private func integerEnd() -> (end: Int, radix: Int) {
    if source[position] == "0" {
      let prefixes: [(Unicode.Scalar, Int)] = [("b", 2), ("o", 8), ("x", 16)]
      for (letter, radix) in prefixes {
        guard let mark = scalar(position + 1), mark.properties.lowercaseMapping == String(letter)
        else { continue }
        let isDigit = { (index: Int) -> Bool in
          guard let scalar = self.scalar(index), scalar.isASCII else { return false }
          return Character(scalar).hexDigitValue.map { $0 < radix } ?? false
        }
        let first = scalar(position + 2) == "_" ? position + 3 : position + 2
        if let end = digits(from: first, where: isDigit) { return (end, radix) }
      }
      // A number that begins with 0 is nothing but zeros.
      let isZero = { (index: Int) -> Bool in self.scalar(index) == "0" }
      return (digits(from: position, where: isZero) ?? position + 1, 10)
    }
    return (digits(from: position, where: isDigit) ?? position + 1, 10)
  }

  // MARK: - Strings

  private mutating func lexString(quote: Unicode.Scalar) throws(TemplateError) {
    var index = position + 1
    while let character = scalar(index), character != quote { index += character == "\\" ? 2 : 1 }
    guard index < source.count else {
      throw TemplateError("a string does not end", line: line)
    }
    var escapes = TemplateEscapes(source[position + 1..<index], line: line)
    tokens.append(TemplateToken(kind: .string(try escapes.decode()), line: line))
    advance(to: index + 1)
  }
}
