/// Parses a template by recursive descent, with Jinja's grammar.
///
/// Here are the tokens, names and scopes; statements and expressions have files of their own.
struct TemplateParser {
  private let tokens: [TemplateToken]
  private var position = 0
  private var nameNumbers: [String: Int] = [:]
  private var names: [String] = []
  private var scopes: [Scope] = [Scope(parent: nil)]
  private var depth = 0

  var scope = 0
  /// Whether the statement being parsed may be skipped in a rendering.
  var conditional = 0
  /// Loops around the statement being parsed, within the innermost macro.
  var loops = 0
  /// Names of the three special variables that the bodies of the macros being parsed ask for.
  var macroRequests: [Set<String>] = []

  /// What Jinja's compiler finds out about a scope before it runs.
  private struct Scope {
    let parent: Int?
    var references: Set<Int> = []
    /// Names whose first use is an unconditional assignment.
    var assignedFirst: [Int] = []
  }

  init(_ source: String) throws(TemplateError) {
    var lexer = try TemplateLexer(source)
    tokens = try lexer.tokenize()
  }

  mutating func parse() throws(TemplateError) -> TemplateProgram {
    let body = try parseBody(until: [])
    return TemplateProgram(body: body, names: names, undefinedAtEntry: scopes.map(undefinedNames))
  }

  // MARK: - Tokens

  var token: TemplateToken.Kind { tokens[position].kind }
  var nextToken: TemplateToken.Kind { tokens[min(position + 1, tokens.count - 1)].kind }
  var line: Int { tokens[position].line }

  mutating func advance() { if position < tokens.count - 1 { position += 1 } }

  func error(_ message: String) -> TemplateError { TemplateError(message, line: line) }

  var tooManyArguments: TemplateError { error("more than \(TemplateLimits.arguments) arguments") }

  func isAt(_ symbol: TemplateToken.Symbol) -> Bool { token == .symbol(symbol) }
  func isAt(_ name: String) -> Bool { token == .name(name) }

  mutating func skip(_ symbol: TemplateToken.Symbol) -> Bool {
    guard isAt(symbol) else { return false }
    advance()
    return true
  }

  mutating func skip(_ name: String) -> Bool {
    guard isAt(name) else { return false }
    advance()
    return true
  }

  mutating func expect(_ kind: TemplateToken.Kind) throws(TemplateError) {
    guard token == kind else {
      throw error("expected \(Self.describe(kind)), found \(Self.describe(token))")
    }
    advance()
  }

  mutating func expectName() throws(TemplateError) -> String {
    guard case .name(let name) = token else {
      throw error("expected a name, found \(Self.describe(token))")
    }
    advance()
    return name
  }

  static func describe(_ kind: TemplateToken.Kind) -> String {
    switch kind {
    case .data: "text"
    case .variableBegin: "'{{'"
    case .variableEnd: "'}}'"
    case .blockBegin: "'{%'"
    case .blockEnd: "'%}'"
    case .name(let name): "'\(name)'"
    case .string: "a string"
    case .integer(let value): "'\(value)'"
    case .double(let value): "'\(value)'"
    case .symbol(let symbol): "'\(symbol.rawValue)'"
    case .end: "the end of the template"
    }
  }

  /// Guards the recursion of the parser; every call is balanced by ``leave()`` unless it throws.
  mutating func enter() throws(TemplateError) {
    depth += 1
    if depth > TemplateLimits.sourceDepth { throw error("nested too deeply") }
  }

  mutating func leave() { depth -= 1 }

  // MARK: - Names and scopes

  mutating func number(of name: String) -> Int {
    if let number = nameNumbers[name] { return number }
    nameNumbers[name] = names.count
    names.append(name)
    return names.count - 1
  }

  mutating func load(_ name: String) -> Int {
    let number = number(of: name)
    scopes[scope].references.insert(number)
    if name == "caller" || name == "varargs" || name == "kwargs" {
      for index in macroRequests.indices { macroRequests[index].insert(name) }
    }
    return number
  }

  mutating func store(_ name: Int) {
    if scopes[scope].references.insert(name).inserted, conditional == 0 {
      scopes[scope].assignedFirst.append(name)
    }
  }

  /// Declares a name that has a value when the current scope is entered.
  mutating func declare(_ name: Int) { scopes[scope].references.insert(name) }

  mutating func declare(_ target: TemplateTarget) {
    switch target {
    case .name(let name): declare(name)
    case .attribute: break
    case .tuple(let targets): for target in targets { declare(target) }
    }
  }

  mutating func store(_ target: TemplateTarget) {
    switch target {
    case .name(let name): store(name)
    case .attribute(let namespace, _): scopes[scope].references.insert(namespace)
    case .tuple(let targets): for target in targets { store(target) }
    }
  }

  /// Parses with `body` in a new scope, and returns the scope's number.
  mutating func inScope(
    _ body: (inout TemplateParser) throws(TemplateError) -> Void
  ) throws(TemplateError) -> Int {
    let outer = (scope, conditional)
    let inner = scopes.count
    scopes.append(Scope(parent: scope))
    (scope, conditional) = (inner, 0)
    try body(&self)
    (scope, conditional) = outer
    return inner
  }

  /// A name whose first use in a scope is an assignment is undefined before it, unless an enclosing
  /// scope uses it; so Jinja's compiled code behaves.
  private func undefinedNames(_ scope: Scope) -> [Int] {
    scope.assignedFirst.filter { name in
      var ancestor = scope.parent
      while let index = ancestor {
        if scopes[index].references.contains(name) { return false }
        ancestor = scopes[index].parent
      }
      return true
    }
  }
}
