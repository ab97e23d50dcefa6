extension TemplateInterpreter {
  mutating func call(
    _ callee: TemplateValue, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    switch callee {
    case .undefined(let message): throw failure(message)
    case .function(let function): return try self.call(function, call)
    case .macro(let index): return try self.call(macro: index, call)
    case .method(.loop(let index), let name): return try callLoop(index, name, call)
    case .method(let receiver, let name): return try self.call(method: name, of: receiver, call)
    default: throw failure("a value of type '\(callee.typeName)' cannot be called")
    }
  }

  /// Arguments by the names of the parameters, nil where not given.
  func bind(
    _ call: TemplateCall, _ function: String, _ parameters: [String], required: Int = 0,
    positionalOnly: Bool = false
  ) throws(TemplateError) -> [TemplateValue?] {
    guard call.positional.count <= parameters.count else {
      throw failure("'\(function)' takes at most \(parameters.count) arguments")
    }
    var bound: [TemplateValue?] = call.positional
    bound += Array(repeating: nil, count: parameters.count - bound.count)
    for (name, value) in call.keywords {
      guard !positionalOnly, let index = parameters.firstIndex(of: name) else {
        throw failure("'\(function)' has no keyword argument '\(name)'")
      }
      guard case nil = bound[index] else {
        throw failure("'\(function)' is given the argument '\(name)' twice")
      }
      bound[index] = value
    }
    for index in 0..<required {
      if case nil = bound[index] {
        throw failure("'\(function)' needs the argument '\(parameters[index])'")
      }
    }
    return bound
  }

  private mutating func call(
    _ function: TemplateValue.Function, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    switch function {
    case .range: return try range(call)
    case .dict: return .object(try object(try dictionary("dict", call)))
    case .namespace:
      let builder = try dictionary("namespace", call)
      for case .string(let name) in builder.keys where name.utf8.first == UInt8(ascii: "_") {
        throw hiddenName(name.string)
      }
      try charge(builder.keys.count + 2, times: 3 * TemplateLimits.elementBytes)
      namespaces.append(builder)
      return .namespace(namespaces.count - 1)
    case .raiseException:
      let bound = try bind(call, function.rawValue, ["message"], required: 1)
      throw failure(try string(bound[0]!).string)
    case .strftimeNow:
      let bound = try bind(call, function.rawValue, ["format"], required: 1)
      guard case .string(let format) = bound[0] else {
        throw failure("'strftime_now' needs a string")
      }
      try charge(format.utf8.count, times: 16)  // more than a byte of it gives
      do {
        return try text(Array(try date.formatted(format.string).utf8))
      } catch {
        throw failure(error.message)
      }
    case .lipsum, .cycler, .joiner:
      throw failure("the function '\(function.rawValue)' is not supported")
    }
  }

  private func range(_ call: TemplateCall) throws(TemplateError) -> TemplateValue {
    var numbers: [Int] = []
    for argument in call.positional { numbers.append(try integer(argument, "'range'")) }
    guard call.keywords.isEmpty, (1...3).contains(numbers.count) else {
      throw failure("'range' takes one to three numbers")
    }
    let start = numbers.count == 1 ? 0 : numbers[0]
    let stop = numbers.count == 1 ? numbers[0] : numbers[1]
    let step = numbers.count == 3 ? numbers[2] : 1
    guard step != 0 else { throw failure("the step of 'range' is 0") }
    guard let count = Self.count(from: start, to: stop, by: step),
      count <= TemplateLimits.rangeCount
    else { throw failure("'range' gives more than \(TemplateLimits.rangeCount) numbers") }
    return .range(TemplateRange(start: start, stop: stop, step: step, count: count))
  }

  /// Numbers in a progression, nil where that overflows.
  static func count(from start: Int, to stop: Int, by step: Int) -> Int? {
    let (distance, overflow) = stop.subtractingReportingOverflow(start)
    guard !overflow, step != .min else { return nil }
    guard (distance > 0) == (step > 0), distance != 0, distance != .min else {
      return distance == .min ? nil : 0
    }
    return (abs(distance) - 1) / abs(step) + 1
  }

  /// What `dict(…)` gives: of a dictionary or pairs, then the keyword arguments.
  private mutating func dictionary(
    _ function: String, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateObject.Builder {
    guard call.positional.count <= 1 else {
      throw failure("'\(function)' takes at most one positional argument")
    }
    var builder = TemplateObject.Builder()
    if let argument = call.positional.first {
      if case .object(let object) = argument {
        builder = TemplateObject.Builder(object)
      } else {
        if case .undefined(let message) = argument { throw failure(message) }
        for pair in try elements(of: argument) {
          let parts = try elements(of: pair)
          guard parts.count == 2 else { throw failure("'\(function)' needs pairs") }
          builder.set(parts[0], key: try requiredKey(parts[0]), to: parts[1])
        }
      }
    }
    for (name, value) in call.keywords {
      try charge(name.utf8.count)
      let key = TemplateText(name)
      builder.set(.string(key), key: .text(key), to: value)
    }
    return builder
  }

  private mutating func call(
    macro index: Int, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    let (macro, outer) = macros[index]
    let scope = try enter(macro.scope, parent: outer)
    var keywords = call.keywords
    var given: [TemplateValue?] = Array(call.positional.prefix(macro.parameters.count))
    for parameter in macro.parameters.dropFirst(given.count) {
      let name = program.names[parameter.name]
      given.append(keywords.firstIndex { $0.name == name }.map { keywords.remove(at: $0).value })
    }
    if let caller = macro.caller {
      let position = keywords.firstIndex { $0.name == "caller" }
      scope.values[caller] =
        position.map { keywords.remove(at: $0).value } ?? .undefined("there is no caller")
    }
    if let kwargs = macro.kwargs {
      var rest = TemplateCall()
      rest.keywords = keywords
      scope.values[kwargs] = .object(try object(try dictionary("kwargs", rest)))
    } else if let extra = keywords.first {
      throw failure("the macro '\(macro.name)' has no argument '\(extra.name)'")
    }
    let rest = Array(call.positional.dropFirst(macro.parameters.count))
    if let varargs = macro.varargs {
      scope.values[varargs] = .tuple(try list(rest))
    } else if !rest.isEmpty {
      throw failure(
        "the macro '\(macro.name)' takes at most \(macro.parameters.count) arguments")
    }
    let callLine = line
    for (parameter, value) in zip(macro.parameters, given) {
      let name = program.names[parameter.name]
      if let value {
        scope.values[parameter.name] = value
      } else if let value = parameter.value {
        scope.values[parameter.name] = try evaluate(value, in: scope)
      } else {
        scope.values[parameter.name] = .undefined(
          "the parameter '\(Self.shown(name))' was not given")
      }
    }
    let text = try capture(macro.body, in: scope).text
    line = callLine
    return text
  }
}
