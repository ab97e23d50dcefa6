extension TemplateParser {
  /// An expression, or several separated by commas, which make a tuple.
  ///
  /// - Parameter isOutput: Whether this is the whole of a `{{ }}`, the one place for `safe`.
  mutating func parseTuple(
    withConditional: Bool = true, parenthesized: Bool = false, isOutput: Bool = false
  ) throws(TemplateError) -> TemplateExpression {
    var elements: [TemplateExpression] = []
    var isTuple = false
    while !isTupleEnd {
      elements.append(
        withConditional ? try parseExpression(isOutput: isOutput) : try parseOr())
      guard skip(.comma) else { break }
      isTuple = true
    }
    if !isTuple, let element = elements.first { return element }
    guard isTuple || parenthesized else {
      throw error("expected an expression, found \(Self.describe(token))")
    }
    return .tuple(elements)
  }

  private var isTupleEnd: Bool {
    token == .variableEnd || token == .blockEnd || isAt(.rightParenthesis)
  }

  mutating func parseExpression(isOutput: Bool = false) throws(TemplateError) -> TemplateExpression
  {
    try enter()
    var expression = try parseOr(isOutput: isOutput)
    if skip("if") {
      conditional += 1
      let test = try parseOr()
      let otherwise = skip("else") ? try parseExpression() : nil
      conditional -= 1
      expression = .conditional(test: test, then: expression, otherwise: otherwise)
      if isAt("if") { throw error("an inline 'if' after one without 'else' is not supported") }
    }
    leave()
    return expression
  }

  private mutating func parseOr(isOutput: Bool = false) throws(TemplateError) -> TemplateExpression
  {
    var operands = [try parseAnd(isOutput: isOutput)]
    while skip("or") { operands.append(try parseAnd()) }
    return operands.count == 1 ? operands[0] : .or(operands)
  }

  private mutating func parseAnd(isOutput: Bool) throws(TemplateError) -> TemplateExpression {
    var operands = [try parseNot(isOutput: isOutput)]
    while skip("and") { operands.append(try parseNot()) }
    return operands.count == 1 ? operands[0] : .and(operands)
  }

  private mutating func parseAnd() throws(TemplateError) -> TemplateExpression {
    try parseAnd(isOutput: false)
  }

  private mutating func parseNot(isOutput: Bool = false) throws(TemplateError) -> TemplateExpression
  {
    guard skip("not") else { return try parseComparison(isOutput: isOutput) }
    try enter()
    let operand = try parseNot()
    leave()
    return .not(operand)
  }

  private mutating func parseComparison(isOutput: Bool) throws(TemplateError) -> TemplateExpression
  {
    let first = try parseSum(isOutput: isOutput)
    var rest: [(TemplateExpression.Comparison, TemplateExpression)] = []
    while let comparison = nextComparison() {
      rest.append((comparison, try parseSum(isOutput: false)))
    }
    return rest.isEmpty ? first : .compare(first, rest)
  }

  private mutating func nextComparison() -> TemplateExpression.Comparison? {
    if case .symbol(let symbol) = token,
      let comparison = TemplateExpression.Comparison(rawValue: symbol.rawValue)
    {
      advance()
      return comparison
    }
    if skip("in") { return .isIn }
    guard isAt("not"), nextToken == .name("in") else { return nil }
    advance()
    advance()
    return .isNotIn
  }

  private mutating func nextOperator(
    _ symbols: TemplateToken.Symbol...
  ) -> TemplateExpression.Arithmetic? {
    guard case .symbol(let symbol) = token, symbols.contains(symbol) else { return nil }
    advance()
    return TemplateExpression.Arithmetic(rawValue: symbol.rawValue)
  }

  private mutating func parseSum(isOutput: Bool) throws(TemplateError) -> TemplateExpression {
    let first = try parseConcatenation(isOutput: isOutput)
    var rest: [(TemplateExpression.Arithmetic, TemplateExpression)] = []
    while let operation = nextOperator(.add, .subtract) {
      rest.append((operation, try parseConcatenation(isOutput: false)))
    }
    return rest.isEmpty ? first : .arithmetic(first, rest)
  }

  private mutating func parseConcatenation(
    isOutput: Bool
  ) throws(TemplateError) -> TemplateExpression {
    var operands = [try parseProduct(isOutput: isOutput)]
    while skip(.tilde) { operands.append(try parseProduct(isOutput: false)) }
    return operands.count == 1 ? operands[0] : .concatenate(operands)
  }

  private mutating func parseProduct(isOutput: Bool) throws(TemplateError) -> TemplateExpression {
    let first = try parsePower(isOutput: isOutput)
    var rest: [(TemplateExpression.Arithmetic, TemplateExpression)] = []
    while let operation = nextOperator(.multiply, .divide, .floorDivide, .remainder) {
      rest.append((operation, try parsePower(isOutput: false)))
    }
    return rest.isEmpty ? first : .arithmetic(first, rest)
  }

  /// Jinja's power groups from the left, unlike Python's, and signs bind tighter.
  private mutating func parsePower(isOutput: Bool) throws(TemplateError) -> TemplateExpression {
    let first = try parseUnary(isOutput: isOutput)
    var rest: [(TemplateExpression.Arithmetic, TemplateExpression)] = []
    while let operation = nextOperator(.power) {
      rest.append((operation, try parseUnary(isOutput: false)))
    }
    return rest.isEmpty ? first : .arithmetic(first, rest)
  }

  private mutating func parseUnary(
    withFilters: Bool = true, isOutput: Bool = false
  ) throws(TemplateError) -> TemplateExpression {
    try enter()
    var expression: TemplateExpression
    if skip(.subtract) {
      expression = .negative(try parseUnary(withFilters: false))
    } else if skip(.add) {
      expression = .positive(try parseUnary(withFilters: false))
    } else {
      expression = try parsePrimary()
    }
    var links = try parsePostfixes()
    if withFilters { links += try parseFiltersAndTests(isOutput: isOutput) }
    if !links.isEmpty { expression = .chain(expression, links) }
    leave()
    return expression
  }

  private mutating func parsePrimary() throws(TemplateError) -> TemplateExpression {
    let line = line
    let current = token
    switch current {
    case .name(let name):
      advance()
      switch name {
      case "true", "True": return .constant(.bool(true))
      case "false", "False": return .constant(.bool(false))
      case "none", "None": return .constant(.none)
      default: return .name(load(name), line: line)
      }
    case .string(let text):
      advance()
      var bytes = text.utf8
      while case .string(let more) = token {
        bytes += more.utf8
        advance()
      }
      return .constant(.string(TemplateText(utf8: bytes)))
    case .integer(let value):
      advance()
      return .constant(.integer(value))
    case .double(let value):
      advance()
      return .constant(.double(value))
    case .symbol(.leftParenthesis):
      advance()
      let expression = try parseTuple(parenthesized: true)
      try expect(.symbol(.rightParenthesis))
      return expression
    case .symbol(.leftBracket):
      advance()
      var elements: [TemplateExpression] = []
      while !isAt(.rightBracket) {
        elements.append(try parseExpression())
        guard skip(.comma) else { break }
      }
      try expect(.symbol(.rightBracket))
      return .list(elements)
    case .symbol(.leftBrace):
      advance()
      return try parseDictionary()
    default: throw error("unexpected \(Self.describe(current))")
    }
  }

  private mutating func parseDictionary() throws(TemplateError) -> TemplateExpression {
    var entries: [(key: TemplateExpression, value: TemplateExpression)] = []
    while !isAt(.rightBrace) {
      let key = try parseExpression()
      try expect(.symbol(.colon))
      entries.append((key, try parseExpression()))
      guard skip(.comma) else { break }
    }
    try expect(.symbol(.rightBrace))
    return .dictionary(entries)
  }

  // MARK: - Links of a chain

  private mutating func parsePostfixes() throws(TemplateError) -> [TemplateLink] {
    var links: [TemplateLink] = []
    while true {
      let line = line
      if skip(.dot) {
        if case .integer(let index) = token {
          advance()
          links.append(TemplateLink(kind: .element(.constant(.integer(index))), line: line))
        } else {
          links.append(TemplateLink(kind: .attribute(try expectName()), line: line))
        }
      } else if skip(.leftBracket) {
        links.append(TemplateLink(kind: try parseSubscript(), line: line))
      } else if isAt(.leftParenthesis) {
        links.append(TemplateLink(kind: .call(try parseArguments()), line: line))
      } else {
        return links
      }
    }
  }

  private mutating func parseSubscript() throws(TemplateError) -> TemplateLink.Kind {
    var bounds: [TemplateExpression?] = []
    var isSlice = false
    for _ in 0..<3 {
      let isEmpty = isAt(.colon) || isAt(.rightBracket)
      bounds.append(isEmpty ? nil : try parseExpression())
      guard skip(.colon) else { break }
      isSlice = true
    }
    if isSlice {
      if isAt(.comma) { throw error("a subscript of several slices is not supported") }
      try expect(.symbol(.rightBracket))
      return .slice(
        bounds[0], bounds.count > 1 ? bounds[1] : nil, bounds.count > 2 ? bounds[2] : nil)
    }
    if let index = bounds[0], skip(.rightBracket) { return .element(index) }
    // Several indexes make a tuple, as do none.
    var indexes = bounds.compactMap { $0 }
    while !isAt(.rightBracket) {
      try expect(.symbol(.comma))
      indexes.append(try parseExpression())
    }
    advance()
    return .element(.tuple(indexes))
  }

  private mutating func parseArguments() throws(TemplateError) -> TemplateArguments {
    var arguments = TemplateArguments()
    try expect(.symbol(.leftParenthesis))
    while !isAt(.rightParenthesis) {
      let count = arguments.positional.count + arguments.keywords.count
      guard count < TemplateLimits.arguments else { throw tooManyArguments }
      if skip(.multiply) {
        guard arguments.unpacked == nil, arguments.unpackedKeywords == nil else {
          throw error("'*' stands twice or after '**'")
        }
        arguments.unpacked = try parseExpression()
      } else if skip(.power) {
        guard arguments.unpackedKeywords == nil else { throw error("'**' stands twice") }
        arguments.unpackedKeywords = try parseExpression()
      } else if case .name(let name) = token, nextToken == .symbol(.assign) {
        guard arguments.unpackedKeywords == nil else {
          throw error("an argument stands after '**'")
        }
        guard !arguments.keywords.contains(where: { $0.name == name }) else {
          throw error("the argument '\(name)' is given twice")
        }
        advance()
        advance()
        arguments.keywords.append((name, try parseExpression()))
      } else {
        guard arguments.keywords.isEmpty, arguments.unpacked == nil,
          arguments.unpackedKeywords == nil
        else { throw error("a positional argument stands after a keyword argument") }
        arguments.positional.append(try parseExpression())
      }
      guard skip(.comma) else { break }
    }
    try expect(.symbol(.rightParenthesis))
    return arguments
  }

  private mutating func parseFiltersAndTests(
    isOutput: Bool
  ) throws(TemplateError) -> [TemplateLink] {
    var links: [TemplateLink] = []
    while true {
      let line = line
      if isAt(.pipe) {
        advance()
        links.append(try parseFilter(isOutput: isOutput))
      } else if skip("is") {
        links.append(TemplateLink(kind: try parseTest(), line: line))
      } else if isAt(.leftParenthesis) {
        links.append(TemplateLink(kind: .call(try parseArguments()), line: line))
      } else {
        return links
      }
    }
  }

  mutating func parseFilters() throws(TemplateError) -> [TemplateLink] {
    var links: [TemplateLink] = []
    while skip(.pipe) { links.append(try parseFilter()) }
    return links
  }

  /// A filter, after its `|`.
  mutating func parseFilter(isOutput: Bool = false) throws(TemplateError) -> TemplateLink {
    let line = line
    let name = try parseDottedName()
    let arguments = isAt(.leftParenthesis) ? try parseArguments() : TemplateArguments()
    if name == "safe", !(isOutput && token == .variableEnd) {
      // Elsewhere Jinja's markup strings would escape what is joined to them.
      throw error("the filter 'safe' is supported only at the end of an output")
    }
    if conditional == 0, TemplateInterpreter.Filter(rawValue: name) == nil {
      throw error("the filter '\(name)' is not supported")
    }
    return TemplateLink(kind: .filter(name, arguments), line: line)
  }

  private mutating func parseTest() throws(TemplateError) -> TemplateLink.Kind {
    let negated = skip("not")
    let name = try parseDottedName()
    if conditional == 0, TemplateInterpreter.Test(rawValue: name) == nil {
      throw error("the test '\(name)' is not supported")
    }
    var arguments = TemplateArguments()
    if isAt(.leftParenthesis) {
      arguments = try parseArguments()
    } else if isTestArgument {
      if isAt("is") { throw error("tests cannot be chained with 'is'") }
      try enter()
      var argument = try parsePrimary()
      let links = try parsePostfixes()
      if !links.isEmpty { argument = .chain(argument, links) }
      leave()
      arguments.positional = [argument]
    }
    return .test(name, arguments, negated: negated)
  }

  /// Whether an argument without parentheses follows the name of a test.
  private var isTestArgument: Bool {
    switch token {
    case .name(let name): name != "else" && name != "or" && name != "and"
    case .string, .integer, .double, .symbol(.leftBracket), .symbol(.leftBrace): true
    default: false
    }
  }

  private mutating func parseDottedName() throws(TemplateError) -> String {
    var name = try expectName()
    while skip(.dot) { name += "." + (try expectName()) }
    return name
  }
}
