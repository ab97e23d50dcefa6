extension TemplateParser {
  /// Statements up to a block tag named in `ends`, which stays the current token. Without ends, up
  /// to the end of the template.
  mutating func parseBody(until ends: [String]) throws(TemplateError) -> [TemplateStatement] {
    let start = line
    var body: [TemplateStatement] = []
    while true {
      let line = line
      switch token {
      case .end:
        if ends.isEmpty { return body }
        throw TemplateError("'\(ends[ends.count - 1])' is missing", line: start)
      case .data(let text):
        advance()
        body.append(TemplateStatement(kind: .text(text), line: line))
      case .variableBegin:
        advance()
        let value = try parseTuple(isOutput: true)
        try expect(.variableEnd)
        body.append(TemplateStatement(kind: .output(value), line: line))
      case .blockBegin:
        advance()
        if case .name(let name) = token, ends.contains(name) { return body }
        try enter()
        body += try parseStatement()
        leave()
        try expect(.blockEnd)
      default: throw error("unexpected \(Self.describe(token))")
      }
    }
  }

  /// The body of the statement whose head has just been read, and its end tag's name.
  mutating func parseBlock(_ ends: String...) throws(TemplateError) -> [TemplateStatement] {
    _ = skip(.colon)
    try expect(.blockEnd)
    let body = try parseBody(until: ends)
    if ends.count == 1 { advance() }
    return body
  }

  private mutating func parseStatement() throws(TemplateError) -> [TemplateStatement] {
    let line = line
    let tag = try expectName()
    let kind: TemplateStatement.Kind
    switch tag {
    case "if": kind = try parseIf()
    case "for": kind = try parseFor()
    case "set": kind = try parseSet()
    case "macro": kind = try parseMacro()
    case "call": kind = try parseCall()
    case "filter": kind = try parseFilterBlock()
    case "with": kind = try parseWith()
    case "generation":
      let loops = loops
      self.loops = 0
      var body: [TemplateStatement] = []
      let scope = try inScope { parser throws(TemplateError) in
        body = try parser.parseBlock("endgeneration")
      }
      self.loops = loops
      kind = .generation(body: body, scope: scope)
    case "print": return try parsePrint(line: line)
    case "break", "continue":
      guard loops > 0 else { throw TemplateError("'\(tag)' outside of a loop", line: line) }
      kind = tag == "break" ? .leave : .next
    case "block", "extends", "include", "import", "from", "autoescape":
      throw TemplateError("the statement '\(tag)' is not supported", line: line)
    default: throw TemplateError("unknown tag '\(tag)'", line: line)
    }
    return [TemplateStatement(kind: kind, line: line)]
  }

  private mutating func parsePrint(line: Int) throws(TemplateError) -> [TemplateStatement] {
    var outputs: [TemplateStatement] = []
    while token != .blockEnd {
      if !outputs.isEmpty { try expect(.symbol(.comma)) }
      let value = try parseExpression()
      outputs.append(TemplateStatement(kind: .output(value), line: line))
    }
    return outputs
  }

  private mutating func parseIf() throws(TemplateError) -> TemplateStatement.Kind {
    var branches: [(test: TemplateExpression, body: [TemplateStatement])] = []
    while true {
      let test = try parseTuple(withConditional: false)
      conditional += 1
      branches.append((test, try parseBlock("elif", "else", "endif")))
      conditional -= 1
      let end = try expectName()
      if end == "elif" { continue }
      var otherwise: [TemplateStatement] = []
      if end == "else" {
        conditional += 1
        otherwise = try parseBlock("endif")
        conditional -= 1
      }
      return .conditional(branches: branches, otherwise: otherwise)
    }
  }

  private mutating func parseFor() throws(TemplateError) -> TemplateStatement.Kind {
    let target = try parseTarget(allowingAttributes: false)
    guard !assigns(target, "loop") else { throw error("a loop cannot assign to 'loop'") }
    try expect(.name("in"))
    let iterable = try parseTuple(withConditional: false)
    var test: (expression: TemplateExpression, scope: Int)?
    if skip("if") {
      var expression = TemplateExpression.constant(.none)
      let scope = try inScope { parser throws(TemplateError) in
        parser.declare(target)
        expression = try parser.parseExpression()
      }
      test = (expression, scope)
    }
    if isAt("recursive") { throw error("recursive loops are not supported") }
    var body: [TemplateStatement] = []
    let scope = try inScope { parser throws(TemplateError) in
      parser.declare(target)
      parser.declare(parser.number(of: "loop"))
      parser.loops += 1
      body = try parser.parseBlock("endfor", "else")
      parser.loops -= 1
    }
    var otherwise: [TemplateStatement] = []
    var otherwiseScope = scope
    if try expectName() == "else" {
      otherwiseScope = try inScope { parser throws(TemplateError) in
        otherwise = try parser.parseBlock("endfor")
      }
    }
    return .loop(
      TemplateLoop(
        target: target, iterable: iterable, test: test, body: body, scope: scope,
        otherwise: otherwise, otherwiseScope: otherwiseScope))
  }

  private mutating func assigns(_ target: TemplateTarget, _ name: String) -> Bool {
    switch target {
    case .name(let number): number == self.number(of: name)
    case .attribute: false
    case .tuple(let targets): targets.contains { assigns($0, name) }
    }
  }

  private mutating func parseSet() throws(TemplateError) -> TemplateStatement.Kind {
    let target = try parseTarget(allowingAttributes: true)
    if loops > 0, assigns(target, "loop") { throw error("a loop cannot assign to 'loop'") }
    if skip(.assign) {
      let value = try parseTuple()
      store(target)
      return .set(target, value)
    }
    let filters = try parseFilters()
    var body: [TemplateStatement] = []
    let scope = try inScope { parser throws(TemplateError) in
      body = try parser.parseBlock("endset")
    }
    store(target)
    return .setBlock(target, filters: filters, body: body, scope: scope)
  }

  private mutating func parseFilterBlock() throws(TemplateError) -> TemplateStatement.Kind {
    let first = try parseFilter()
    let filters = [first] + (try parseFilters())
    var body: [TemplateStatement] = []
    let scope = try inScope { parser throws(TemplateError) in
      body = try parser.parseBlock("endfilter")
    }
    return .filterBlock(filters: filters, body: body, scope: scope)
  }

  private mutating func parseWith() throws(TemplateError) -> TemplateStatement.Kind {
    var bindings: [(TemplateTarget, TemplateExpression)] = []
    while token != .blockEnd {
      if !bindings.isEmpty { try expect(.symbol(.comma)) }
      let target = try parseTarget(allowingAttributes: false)
      try expect(.symbol(.assign))
      bindings.append((target, try parseExpression()))
    }
    var body: [TemplateStatement] = []
    let scope = try inScope { parser throws(TemplateError) in
      for (target, _) in bindings { parser.declare(target) }
      body = try parser.parseBlock("endwith")
    }
    return .with(bindings, body: body, scope: scope)
  }

  private mutating func parseMacro() throws(TemplateError) -> TemplateStatement.Kind {
    let name = try parseTargetName()
    let number = number(of: name)
    store(number)
    return .macro(name: number, try parseMacroBody(name: name, end: "endmacro", signature: true))
  }

  private mutating func parseCall() throws(TemplateError) -> TemplateStatement.Kind {
    // The parameters come before the call, but belong to the scope of the body.
    let hasSignature = isAt(.leftParenthesis)
    var call = TemplateExpression.constant(.none)
    let caller = try parseMacroBody(name: "caller", end: "endcall", signature: hasSignature) {
      parser throws(TemplateError) in
      call = try parser.parseExpression()
      guard case .chain(_, let links) = call, case .call = links.last?.kind else {
        throw parser.error("'call' needs a call")
      }
    }
    return .callBlock(call, caller: caller)
  }

  private mutating func parseMacroBody(
    name: String, end: String, signature: Bool,
    head: (inout TemplateParser) throws(TemplateError) -> Void = { _ throws(TemplateError) in }
  ) throws(TemplateError) -> TemplateMacro {
    let outer = (loops, scope)
    loops = 0
    var parameters: [(name: Int, value: TemplateExpression?)] = []
    var body: [TemplateStatement] = []
    macroRequests.append([])
    let inner = try inScope { parser throws(TemplateError) in
      if signature { parameters = try parser.parseParameters() }
      let scope = parser.scope
      parser.scope = outer.1
      try head(&parser)
      parser.scope = scope
      for parameter in parameters { parser.declare(parameter.name) }
      body = try parser.parseBlock(end)
    }
    loops = outer.0
    let requests = macroRequests.removeLast()
    let special = ["caller", "varargs", "kwargs"].map { name -> Int? in
      let number = number(of: name)
      let isParameter = parameters.contains { $0.name == number }
      return requests.contains(name) && !isParameter ? number : nil
    }
    return TemplateMacro(
      name: name, parameters: parameters, body: body, scope: inner, caller: special[0],
      varargs: special[1], kwargs: special[2])
  }

  private mutating func parseParameters() throws(TemplateError) -> [(
    name: Int, value: TemplateExpression?
  )] {
    var parameters: [(name: Int, value: TemplateExpression?)] = []
    try expect(.symbol(.leftParenthesis))
    while !isAt(.rightParenthesis) {
      guard parameters.count < TemplateLimits.arguments else { throw tooManyArguments }
      if !parameters.isEmpty { try expect(.symbol(.comma)) }
      let name = number(of: try parseTargetName())
      declare(name)
      guard !parameters.contains(where: { $0.name == name }) else {
        throw error("a parameter is declared twice")
      }
      if skip(.assign) {
        parameters.append((name, try parseExpression()))
      } else if let last = parameters.last, last.value != nil {
        throw error("a parameter without a default follows one with a default")
      } else {
        parameters.append((name, nil))
      }
    }
    advance()
    return parameters
  }

  // MARK: - Targets

  private static let constants: Set<String> = ["true", "false", "none", "True", "False", "None"]

  private mutating func parseTargetName() throws(TemplateError) -> String {
    let name = try expectName()
    guard !Self.constants.contains(name) else { throw error("cannot assign to '\(name)'") }
    return name
  }

  /// A name, or names separated by commas, perhaps in parentheses.
  private mutating func parseTarget(
    allowingAttributes: Bool
  ) throws(TemplateError) -> TemplateTarget {
    try enter()
    var targets: [TemplateTarget] = []
    var isTuple = false
    while true {
      if skip(.leftParenthesis) {
        targets.append(try parseTarget(allowingAttributes: false))
        try expect(.symbol(.rightParenthesis))
      } else {
        let name = number(of: try parseTargetName())
        if allowingAttributes, skip(.dot) {
          targets.append(.attribute(namespace: name, try expectName()))
        } else {
          targets.append(.name(name))
        }
      }
      guard skip(.comma) else { break }
      isTuple = true
      if isAt("in") || isAt(.rightParenthesis) { break }
    }
    leave()
    return isTuple ? .tuple(targets) : targets[0]
  }
}
