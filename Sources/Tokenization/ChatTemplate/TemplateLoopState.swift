/// A running `for` loop. Its test is applied as late as Python's generator would: one element ahead
/// if the body asks for `loop.last` or `loop.nextitem`, else not at all.
struct LoopState {
  /// Elements not yet tested, from `next` on.
  var elements: [TemplateValue]
  var next = 0
  let loop: TemplateLoop
  let scope: TemplateInterpreter.Scope
  var isTested: Bool
  var index = -1
  var previous: TemplateValue?
  var current: TemplateValue?
  var ahead: TemplateValue?
  var length: Int?
  var changed: [TemplateValue]?

  init(elements: [TemplateValue], loop: TemplateLoop, scope: TemplateInterpreter.Scope) {
    self.elements = elements
    self.loop = loop
    self.scope = scope
    isTested = loop.test == nil
    if isTested { length = elements.count }
  }
}

extension TemplateInterpreter {
  /// The next element that passes the loop's test.
  private mutating func pull(_ index: Int) throws(TemplateError) -> TemplateValue? {
    while loops[index].next < loops[index].elements.count {
      let element = loops[index].elements[loops[index].next]
      loops[index].next += 1
      guard !loops[index].isTested, let test = loops[index].loop.test else { return element }
      try step()
      let scope = try enter(test.scope, parent: loops[index].scope)
      try assign(element, to: loops[index].loop.target, in: scope)
      if try isTrue(try evaluate(test.expression, in: scope)) { return element }
    }
    return nil
  }

  private mutating func peek(_ index: Int) throws(TemplateError) -> TemplateValue? {
    if case nil = loops[index].ahead { loops[index].ahead = try pull(index) }
    return loops[index].ahead
  }

  mutating func nextElement(ofLoop index: Int) throws(TemplateError) -> TemplateValue? {
    guard let element = try peek(index) else { return nil }
    loops[index].ahead = nil
    loops[index].index += 1
    loops[index].previous = loops[index].current
    loops[index].current = element
    return element
  }

  mutating func length(ofLoop index: Int) throws(TemplateError) -> Int {
    if let length = loops[index].length { return length }
    var rest: [TemplateValue] = []
    while let element = try pull(index) { rest.append(element) }
    try charge(rest.count, times: TemplateLimits.elementBytes)
    let length = rest.count + loops[index].index + 1 + (loops[index].ahead.map { _ in 1 } ?? 0)
    loops[index].elements = rest
    loops[index].next = 0
    loops[index].isTested = true
    loops[index].length = length
    return length
  }

  /// An attribute of the variable `loop`; nil if there is none of that name.
  mutating func attribute(
    _ name: String, ofLoop index: Int
  ) throws(TemplateError) -> TemplateValue? {
    switch name {
    case "index": return .integer(loops[index].index + 1)
    case "index0": return .integer(loops[index].index)
    case "revindex": return .integer(try length(ofLoop: index) - loops[index].index)
    case "revindex0": return .integer(try length(ofLoop: index) - loops[index].index - 1)
    case "first": return .bool(loops[index].index == 0)
    case "last": return .bool(try peek(index) == nil)
    case "length": return .integer(try length(ofLoop: index))
    case "depth": return .integer(1)
    case "depth0": return .integer(0)
    case "previtem":
      return loops[index].index == 0
        ? .undefined("there is no previous item") : loops[index].previous
    case "nextitem": return try peek(index) ?? .undefined("there is no next item")
    case "cycle", "changed": return .method(.loop(index), name)
    default: return nil
    }
  }

  mutating func callLoop(
    _ index: Int, _ name: String, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    guard call.keywords.isEmpty else { throw failure("'loop.\(name)' takes no keyword arguments") }
    if name == "cycle" {
      guard !call.positional.isEmpty else { throw failure("'loop.cycle' needs an argument") }
      return call.positional[loops[index].index % call.positional.count]
    }
    if let last = loops[index].changed {
      let now = TemplateValue.tuple(TemplateList(call.positional))
      if try isEqual(.tuple(TemplateList(last)), now) { return .bool(false) }
    }
    loops[index].changed = call.positional
    return .bool(true)
  }
}
