extension TemplateInterpreter {
  /// The tests that are supported, by all their names.
  enum Test: String {
    case boolean, callable, defined, divisibleby, even, `false`, filter, float, integer, iterable
    case lower, mapping, none, number, odd, sameas, sequence, string, test, `true`, undefined, upper
    case isIn = "in"
    case eq, equalto
    case equal = "=="
    case ne
    case unequal = "!="
    case lt, lessthan
    case less = "<"
    case le
    case lessOrEqual = "<="
    case gt, greaterthan
    case greater = ">"
    case ge
    case greaterOrEqual = ">="

    var comparison: TemplateExpression.Comparison? {
      switch self {
      case .eq, .equalto, .equal: .equal
      case .ne, .unequal: .unequal
      case .lt, .lessthan, .less: .less
      case .le, .lessOrEqual: .lessOrEqual
      case .gt, .greaterthan, .greater: .greater
      case .ge, .greaterOrEqual: .greaterOrEqual
      case .isIn: .isIn
      default: nil
      }
    }
  }

  mutating func test(
    _ name: String, _ value: TemplateValue, _ call: TemplateCall
  ) throws(TemplateError) -> Bool {
    guard let test = Test(rawValue: name) else {
      throw failure("the test '\(name)' is not supported")
    }
    if let comparison = test.comparison {
      let bound = try bind(call, name, ["other"], required: 1)
      return try compare(value, comparison, bound[0]!)
    }
    switch test {
    case .divisibleby:
      let bound = try bind(call, name, ["num"], required: 1)
      return try isEqual(try calculate(value, .remainder, bound[0]!), .integer(0))
    case .sameas:
      return try isSame(value, try bind(call, name, ["other"], required: 1)[0]!)
    default: _ = try bind(call, name, [])
    }
    switch test {
    case .odd, .even:
      return try isEqual(
        try calculate(value, .remainder, .integer(2)), .integer(test == .odd ? 1 : 0))
    case .lower, .upper:
      let text = try string(value)
      try charge(text.utf8.count)
      return text.isCased(upper: test == .upper)
    case .filter, .test:
      guard case .string(let text) = value else { throw unsuitable(value, "'is \(name)'") }
      try charge(text.utf8.count)
      return test == .filter
        ? Filter(rawValue: text.string) != nil : Test(rawValue: text.string) != nil
    default: return isOfKind(test, value)
    }
  }

  private func isOfKind(_ test: Test, _ value: TemplateValue) -> Bool {
    switch (test, value) {
    case (.undefined, .undefined): true
    case (.defined, .undefined): false
    case (.defined, _): true
    case (.none, .none): true
    case (.boolean, .bool): true
    case (.true, .bool(let flag)): flag
    case (.false, .bool(let flag)): !flag
    case (.integer, .integer): true
    case (.float, .double): true
    case (.number, .bool), (.number, .integer), (.number, .double): true
    case (.string, .string): true
    case (.mapping, .object): true
    // An undefined value has a length, elements (none) and can be called (with an error).
    case (.sequence, .undefined), (.sequence, .string), (.sequence, .array), (.sequence, .tuple),
      (.sequence, .object), (.sequence, .range):
      true
    case (.iterable, .undefined), (.iterable, .string), (.iterable, .array), (.iterable, .tuple),
      (.iterable, .object), (.iterable, .range), (.iterable, .view), (.iterable, .iterator),
      (.iterable, .loop):
      true
    case (.callable, .undefined), (.callable, .function), (.callable, .macro), (.callable, .method),
      (.callable, .loop):
      true
    default: false
    }
  }

  /// Python's `is`, as far as it does not depend on which objects Python shares.
  private func isSame(_ a: TemplateValue, _ b: TemplateValue) throws(TemplateError) -> Bool {
    switch (a, b) {
    case (.none, .none): return true
    case (.bool(let a), .bool(let b)): return a == b
    case (.none, _), (_, .none), (.bool, _), (_, .bool): return false
    default: throw failure("'sameas' is supported only for none, true and false")
    }
  }
}
