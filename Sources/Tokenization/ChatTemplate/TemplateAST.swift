/// A parsed template.
struct TemplateProgram: Sendable {
  var body: [TemplateStatement] = []
  /// Names are numbered in the order of their first use.
  var names: [String] = []
  /// For every scope (0 is the template itself): the names that are undefined when it is entered,
  /// whatever the variables given to the template say.
  var undefinedAtEntry: [[Int]] = []
}

struct TemplateStatement: Sendable {
  let kind: Kind
  let line: Int

  indirect enum Kind: Sendable {
    case text([UInt8])
    case output(TemplateExpression)
    case conditional(
      branches: [(test: TemplateExpression, body: [TemplateStatement])],
      otherwise: [TemplateStatement])
    case loop(TemplateLoop)
    case set(TemplateTarget, TemplateExpression)
    /// Assigns what `body` prints, after the filters.
    case setBlock(
      TemplateTarget, filters: [TemplateLink], body: [TemplateStatement], scope: Int)
    case filterBlock(filters: [TemplateLink], body: [TemplateStatement], scope: Int)
    case with([(TemplateTarget, TemplateExpression)], body: [TemplateStatement], scope: Int)
    case macro(name: Int, TemplateMacro)
    /// Calls `call` with the body as its `caller`.
    case callBlock(TemplateExpression, caller: TemplateMacro)
    case generation(body: [TemplateStatement], scope: Int)
    case leave
    case next
  }
}

struct TemplateLoop: Sendable {
  let target: TemplateTarget
  let iterable: TemplateExpression
  let test: (expression: TemplateExpression, scope: Int)?
  let body: [TemplateStatement]
  let scope: Int
  let otherwise: [TemplateStatement]
  let otherwiseScope: Int
}

struct TemplateMacro: Sendable {
  let name: String
  let parameters: [(name: Int, value: TemplateExpression?)]
  let body: [TemplateStatement]
  let scope: Int
  /// Which of `caller`, `varargs` and `kwargs` the body asks for, as names.
  let caller: Int?
  let varargs: Int?
  let kwargs: Int?
}

/// What can be assigned to.
indirect enum TemplateTarget: Sendable {
  case name(Int)
  case attribute(namespace: Int, String)
  case tuple([TemplateTarget])
}

indirect enum TemplateExpression: Sendable {
  case constant(TemplateValue)
  case name(Int, line: Int)
  case list([TemplateExpression])
  case tuple([TemplateExpression])
  case dictionary([(key: TemplateExpression, value: TemplateExpression)])
  case or([TemplateExpression])
  case and([TemplateExpression])
  case not(TemplateExpression)
  case compare(TemplateExpression, [(Comparison, TemplateExpression)])
  /// Operators of one precedence, applied from left to right.
  case arithmetic(TemplateExpression, [(Arithmetic, TemplateExpression)])
  case concatenate([TemplateExpression])
  case negative(TemplateExpression)
  case positive(TemplateExpression)
  case conditional(
    test: TemplateExpression, then: TemplateExpression, otherwise: TemplateExpression?)
  /// Attributes, subscripts, calls, filters and tests, applied from left to right.
  case chain(TemplateExpression, [TemplateLink])

  enum Comparison: String, Sendable {
    case equal = "=="
    case unequal = "!="
    case less = "<"
    case lessOrEqual = "<="
    case greater = ">"
    case greaterOrEqual = ">="
    case isIn = "in"
    case isNotIn = "not in"
  }

  enum Arithmetic: String, Sendable {
    case add = "+"
    case subtract = "-"
    case multiply = "*"
    case divide = "/"
    case floorDivide = "//"
    case remainder = "%"
    case power = "**"
  }
}

struct TemplateLink: Sendable {
  let kind: Kind
  let line: Int

  enum Kind: Sendable {
    case attribute(String)
    case element(TemplateExpression)
    case slice(TemplateExpression?, TemplateExpression?, TemplateExpression?)
    case call(TemplateArguments)
    case filter(String, TemplateArguments)
    case test(String, TemplateArguments, negated: Bool)
  }
}

/// The arguments of a call, as written.
struct TemplateArguments: Sendable {
  var positional: [TemplateExpression] = []
  var keywords: [(name: String, value: TemplateExpression)] = []
  /// `*expression` and `**expression`.
  var unpacked: TemplateExpression?
  var unpackedKeywords: TemplateExpression?
}
