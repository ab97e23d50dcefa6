/// The arguments of a call, evaluated.
struct TemplateCall {
  var positional: [TemplateValue] = []
  var keywords: [(name: String, value: TemplateValue)] = []
}

extension TemplateInterpreter {
  mutating func evaluate(
    _ expression: TemplateExpression, in scope: Scope
  ) throws(TemplateError) -> TemplateValue {
    try step()
    switch expression {
    case .constant(let value): return value
    case .name(let name, let line):
      self.line = line
      return value(of: name, in: scope)
    default: break
    }
    try descend()
    let value = try evaluateCompound(expression, in: scope)
    depth -= 1
    return value
  }

  private mutating func evaluateCompound(
    _ expression: TemplateExpression, in scope: Scope
  ) throws(TemplateError) -> TemplateValue {
    switch expression {
    case .constant, .name: return try evaluate(expression, in: scope)
    case .list(let elements): return .array(try list(try evaluate(elements, in: scope)))
    case .tuple(let elements): return .tuple(try list(try evaluate(elements, in: scope)))
    case .dictionary(let entries): return try evaluate(entries, in: scope)
    case .or(let operands): return try evaluate(operands, until: true, in: scope)
    case .and(let operands): return try evaluate(operands, until: false, in: scope)
    case .not(let operand): return .bool(!(try isTrue(try evaluate(operand, in: scope))))
    case .compare(let first, let rest):
      var left = try evaluate(first, in: scope)
      for (comparison, expression) in rest {
        let right = try evaluate(expression, in: scope)
        guard try compare(left, comparison, right) else { return .bool(false) }
        left = right
      }
      return .bool(true)
    case .arithmetic(let first, let rest):
      var result = try evaluate(first, in: scope)
      for (operation, expression) in rest {
        result = try calculate(result, operation, try evaluate(expression, in: scope))
      }
      return result
    case .concatenate(let operands):
      var bytes: [UInt8] = []
      for operand in operands { try write(try evaluate(operand, in: scope), to: &bytes) }
      return .string(TemplateText(utf8: bytes))
    case .negative(let operand): return try negate(try evaluate(operand, in: scope))
    case .positive(let operand):
      let value = try evaluate(operand, in: scope)
      if case .bool(let flag) = value { return .integer(flag ? 1 : 0) }
      guard number(value) != nil else { throw unsuitable(value, "unary '+'") }
      return value
    case .conditional(let test, let then, let otherwise):
      if try isTrue(try evaluate(test, in: scope)) { return try evaluate(then, in: scope) }
      guard let otherwise else {
        return .undefined("the inline 'if' is false and has no 'else'")
      }
      return try evaluate(otherwise, in: scope)
    case .chain: return try evaluate(expression, caller: nil, in: scope)
    }
  }

  private mutating func evaluate(
    _ expressions: [TemplateExpression], in scope: Scope
  ) throws(TemplateError) -> [TemplateValue] {
    var values: [TemplateValue] = []
    values.reserveCapacity(expressions.count)
    for expression in expressions { values.append(try evaluate(expression, in: scope)) }
    return values
  }

  /// The first operand whose truth is `end`, else the last.
  private mutating func evaluate(
    _ operands: [TemplateExpression], until end: Bool, in scope: Scope
  ) throws(TemplateError) -> TemplateValue {
    var value = TemplateValue.none
    for operand in operands {
      value = try evaluate(operand, in: scope)
      if try isTrue(value) == end { break }
    }
    return value
  }

  private mutating func evaluate(
    _ entries: [(key: TemplateExpression, value: TemplateExpression)], in scope: Scope
  ) throws(TemplateError) -> TemplateValue {
    var builder = TemplateObject.Builder()
    for entry in entries {
      let name = try evaluate(entry.key, in: scope)
      let value = try evaluate(entry.value, in: scope)
      builder.set(name, key: try requiredKey(name), to: value)
    }
    return .object(try object(builder))
  }

  // MARK: - Chains

  /// - Parameter caller: The body of a call block, passed to the last link, which is a call.
  mutating func evaluate(
    _ expression: TemplateExpression, caller: TemplateValue?, in scope: Scope
  ) throws(TemplateError) -> TemplateValue {
    guard case .chain(let base, let links) = expression else {
      return try evaluate(expression, in: scope)
    }
    var value = try evaluate(base, in: scope)
    for (index, link) in links.enumerated() {
      try step()
      line = link.line
      guard case .call(let arguments) = link.kind else {
        value = try apply(link, to: value, in: scope)
        continue
      }
      var call = try evaluate(arguments, in: scope)
      line = link.line
      if let caller, index == links.count - 1 { call.keywords.append(("caller", caller)) }
      value = try self.call(value, call)
    }
    return value
  }

  mutating func apply(
    _ links: [TemplateLink], to value: TemplateValue, in scope: Scope
  ) throws(TemplateError) -> TemplateValue {
    var value = value
    for link in links { value = try apply(link, to: value, in: scope) }
    return value
  }

  private mutating func apply(
    _ link: TemplateLink, to value: TemplateValue, in scope: Scope
  ) throws(TemplateError) -> TemplateValue {
    switch link.kind {
    case .attribute(let name): return try attribute(name, of: value)
    case .element(let expression):
      let index = try evaluate(expression, in: scope)
      line = link.line
      return try element(index, of: value)
    case .slice(let start, let stop, let step):
      var bounds: [TemplateValue] = []
      for bound in [start, stop, step] {
        if let bound { bounds.append(try evaluate(bound, in: scope)) } else { bounds.append(.none) }
      }
      line = link.line
      return try slice(value, bounds[0], bounds[1], bounds[2])
    case .call(let arguments): return try call(value, try evaluate(arguments, in: scope))
    case .filter(let name, let arguments):
      let call = try evaluate(arguments, in: scope)
      line = link.line
      return try filter(name, value, call)
    case .test(let name, let arguments, let negated):
      let call = try evaluate(arguments, in: scope)
      line = link.line
      return .bool(try test(name, value, call) != negated)
    }
  }

  private mutating func evaluate(
    _ arguments: TemplateArguments, in scope: Scope
  ) throws(TemplateError) -> TemplateCall {
    var call = TemplateCall()
    call.positional = try evaluate(arguments.positional, in: scope)
    for (name, expression) in arguments.keywords {
      call.keywords.append((name, try evaluate(expression, in: scope)))
    }
    if let unpacked = arguments.unpacked {
      let values = try elements(of: try evaluate(unpacked, in: scope))
      try charge(values.count, times: TemplateLimits.elementBytes)
      call.positional += values
    }
    if let unpacked = arguments.unpackedKeywords {
      guard case .object(let object) = try evaluate(unpacked, in: scope) else {
        throw failure("'**' needs a dictionary")
      }
      try charge(object.count, times: 3 * TemplateLimits.elementBytes)
      var given = Set(call.keywords.map(\.name))
      for (key, value) in zip(object.keys, object.values) {
        guard case .string(let name) = key, given.insert(name.string).inserted else {
          throw failure("'**' gives an argument twice or one that is not named by a string")
        }
        call.keywords.append((name.string, value))
      }
    }
    return call
  }
}
