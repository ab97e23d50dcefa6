import JSON

/// Runs a parsed template.
///
/// Here are the state, its bounds and the statements; expressions, operators, filters, tests and
/// methods have files of their own.
struct TemplateInterpreter {
  let program: TemplateProgram
  let date: TemplateDate
  let globals: Scope
  var output: [UInt8] = []
  /// Line of what is being run, for errors.
  var line = 1
  var depth = 0
  /// By number: the value of a name that has none. Made once, because messages are as long as names.
  private let undefinedNames: [TemplateValue]
  private let loopName: Int?
  private var stepsLeft: Int
  private var bytesLeft: Int

  // Things with identity, which values refer to by index.
  var namespaces: [TemplateObject.Builder] = []
  var iterators: [(elements: [TemplateValue], next: Int)] = []
  var loops: [LoopState] = []
  var macros: [(definition: TemplateMacro, scope: Scope)] = []

  /// Variables of a part of the template. Enclosing scopes can be read, never assigned to.
  final class Scope {
    var values: [Int: TemplateValue]
    let parent: Scope?

    init(_ values: [Int: TemplateValue] = [:], parent: Scope?) {
      self.values = values
      self.parent = parent
    }
  }

  enum Flow { case normal, leave, next }

  init(
    _ program: TemplateProgram, variables: [(String, JSONValue)], date: TemplateDate,
    limits: TemplateLimits
  ) throws(TemplateError) {
    self.program = program
    self.date = date
    stepsLeft = limits.steps
    bytesLeft = limits.bytes
    var numbers: [String: Int] = [:]
    for (number, name) in program.names.enumerated() { numbers[name] = number }
    undefinedNames = program.names.map { .undefined("'\(Self.shown($0))' is undefined") }
    loopName = numbers["loop"]
    var values: [Int: TemplateValue] = [:]
    for function in TemplateValue.Function.allCases {
      if let number = numbers[function.rawValue] { values[number] = .function(function) }
    }
    for (name, json) in variables {
      guard let number = numbers[name] else { continue }
      guard let value = TemplateValue(json) else {
        throw TemplateError("the variable '\(name)' is nested too deeply", line: 1)
      }
      values[number] = value
    }
    globals = Scope(values, parent: nil)
  }

  mutating func render() throws(TemplateError) -> String {
    _ = try run(program.body, in: try enter(0, parent: globals))
    return String(decoding: output, as: UTF8.self)
  }

  // MARK: - Bounds and errors

  func failure(_ message: String) -> TemplateError { TemplateError(message, line: line) }

  /// The beginning of a name, for a message: names may be as long as the template.
  static func shown(_ name: String) -> String {
    String(String.UnicodeScalarView(name.unicodeScalars.prefix(80)))
  }

  mutating func step() throws(TemplateError) {
    stepsLeft -= 1
    if stepsLeft < 0 { throw failure("the template takes too many steps") }
  }

  /// Counts bytes that are about to be read or built.
  mutating func charge(_ bytes: Int) throws(TemplateError) {
    guard bytes <= bytesLeft else { throw failure("the template builds or reads too much text") }
    bytesLeft -= bytes
  }

  mutating func charge(_ count: Int, times each: Int) throws(TemplateError) {
    let (bytes, overflow) = count.multipliedReportingOverflow(by: each)
    try charge(overflow ? .max : bytes)
  }

  mutating func descend() throws(TemplateError) {
    depth += 1
    if depth > TemplateLimits.renderDepth { throw failure("the template is nested too deeply") }
  }

  /// A list of values that were just made.
  mutating func list(_ elements: [TemplateValue]) throws(TemplateError) -> TemplateList {
    try charge(elements.count, times: TemplateLimits.elementBytes)
    let list = TemplateList(elements)
    guard list.depth <= TemplateLimits.valueDepth else {
      throw failure("lists and dictionaries are nested too deeply")
    }
    return list
  }

  mutating func object(
    _ builder: TemplateObject.Builder
  ) throws(TemplateError) -> TemplateObject {
    try charge(builder.keys.count, times: 3 * TemplateLimits.elementBytes)
    let object = TemplateObject(builder)
    guard object.depth <= TemplateLimits.valueDepth else {
      throw failure("lists and dictionaries are nested too deeply")
    }
    return object
  }

  mutating func text(_ utf8: [UInt8]) throws(TemplateError) -> TemplateValue {
    try charge(utf8.count)
    return .string(TemplateText(utf8: utf8))
  }

  mutating func iterator(_ elements: [TemplateValue]) throws(TemplateError) -> TemplateValue {
    try charge(elements.count + 2, times: TemplateLimits.elementBytes)
    iterators.append((elements, 0))
    return .iterator(iterators.count - 1)
  }

  // MARK: - Scopes

  mutating func enter(_ scope: Int, parent: Scope) throws(TemplateError) -> Scope {
    let names = program.undefinedAtEntry[scope]
    try charge(names.count, times: TemplateLimits.elementBytes)
    let inner = Scope(parent: parent)
    for name in names { inner.values[name] = undefinedNames[name] }
    return inner
  }

  func value(of name: Int, in scope: Scope) -> TemplateValue {
    var scope = scope
    while true {
      if let value = scope.values[name] { return value }
      guard let parent = scope.parent else { return undefinedNames[name] }
      scope = parent
    }
  }

  mutating func assign(
    _ value: TemplateValue, to target: TemplateTarget, in scope: Scope
  ) throws(TemplateError) {
    switch target {
    case .name(let name): scope.values[name] = value
    case .attribute(let namespace, let name):
      guard case .namespace(let index) = self.value(of: namespace, in: scope) else {
        throw failure("cannot assign to an attribute of what is not a namespace")
      }
      guard !name.hasPrefix("_") else { throw hiddenName(name) }
      try charge(3 * TemplateLimits.elementBytes + name.utf8.count)
      let key = TemplateText(name)
      namespaces[index].set(.string(key), key: .text(key), to: value)
    case .tuple(let targets):
      let elements = try self.elements(of: value)
      guard elements.count == targets.count else {
        throw failure("\(elements.count) values cannot be assigned to \(targets.count) names")
      }
      for (element, target) in zip(elements, targets) {
        try assign(element, to: target, in: scope)
      }
    }
  }

  func hiddenName(_ name: String) -> TemplateError {
    failure("a namespace cannot hold '\(name)', which begins with '_'")
  }

  // MARK: - Statements

  mutating func run(
    _ statements: [TemplateStatement], in scope: Scope
  ) throws(TemplateError) -> Flow {
    try descend()
    for statement in statements {
      try step()
      line = statement.line
      let flow = try run(statement, in: scope)
      if flow != .normal {
        depth -= 1
        return flow
      }
    }
    depth -= 1
    return .normal
  }

  private mutating func run(
    _ statement: TemplateStatement, in scope: Scope
  ) throws(TemplateError) -> Flow {
    switch statement.kind {
    case .text(let text):
      try charge(text.count)
      output += text
    case .output(let expression):
      try print(try evaluate(expression, in: scope))
    case .conditional(let branches, let otherwise):
      for (test, body) in branches {
        if try isTrue(try evaluate(test, in: scope)) { return try run(body, in: scope) }
      }
      return try run(otherwise, in: scope)
    case .loop(let loop): return try run(loop, in: scope)
    case .set(let target, let expression):
      try assign(try evaluate(expression, in: scope), to: target, in: scope)
    case .setBlock(let target, let filters, let body, let inner):
      let (flow, text) = try capture(body, in: try enter(inner, parent: scope))
      if flow != .normal { return flow }
      try assign(try apply(filters, to: text, in: scope), to: target, in: scope)
    case .filterBlock(let filters, let body, let inner):
      let (flow, text) = try capture(body, in: try enter(inner, parent: scope))
      if flow != .normal { return flow }
      try print(try apply(filters, to: text, in: scope))
    case .with(let bindings, let body, let inner):
      let inner = try enter(inner, parent: scope)
      for (target, expression) in bindings {
        try assign(try evaluate(expression, in: scope), to: target, in: inner)
      }
      return try run(body, in: inner)
    case .macro(let name, let macro): scope.values[name] = try define(macro, in: scope)
    case .callBlock(let call, let caller):
      try print(try evaluate(call, caller: try define(caller, in: scope), in: scope))
    case .generation(let body, let inner):
      return try run(body, in: try enter(inner, parent: scope))
    case .leave: return .leave
    case .next: return .next
    }
    return .normal
  }

  private mutating func print(_ value: TemplateValue) throws(TemplateError) {
    // Writing needs the interpreter for itself, so the output is taken out of it.
    var bytes = output
    output = []
    try write(value, to: &bytes)
    output = bytes
  }

  /// Runs `body` and returns what it prints instead of printing it.
  mutating func capture(
    _ body: [TemplateStatement], in scope: Scope
  ) throws(TemplateError) -> (flow: Flow, text: TemplateValue) {
    let outer = output
    output = []
    let flow = try run(body, in: scope)
    let text = TemplateText(utf8: output)
    output = outer
    return (flow, .string(text))
  }

  private mutating func define(
    _ macro: TemplateMacro, in scope: Scope
  ) throws(TemplateError) -> TemplateValue {
    try charge(4 * TemplateLimits.elementBytes)
    macros.append((macro, scope))
    return .macro(macros.count - 1)
  }

  private mutating func run(
    _ loop: TemplateLoop, in scope: Scope
  ) throws(TemplateError) -> Flow {
    let elements = try elements(of: try evaluate(loop.iterable, in: scope))
    try charge(8 * TemplateLimits.elementBytes)
    let index = loops.count
    loops.append(LoopState(elements: elements, loop: loop, scope: scope))
    var wasCompleted = false
    while let element = try nextElement(ofLoop: index) {
      try step()
      let inner = try enter(loop.scope, parent: scope)
      try assign(element, to: loop.target, in: inner)
      if let loopName { inner.values[loopName] = .loop(index) }
      let flow = try run(loop.body, in: inner)
      if flow == .leave { break }
      if flow == .normal { wasCompleted = true }
    }
    // Jinja's `else` also runs where `break` or `continue` cut every iteration short.
    if wasCompleted { return .normal }
    return try run(loop.otherwise, in: try enter(loop.otherwiseScope, parent: scope))
  }
}
