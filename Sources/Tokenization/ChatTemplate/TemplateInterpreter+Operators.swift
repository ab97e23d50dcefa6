import Glibc

extension TemplateInterpreter {
  /// Python's `int` (to which `bool` belongs) or `float`.
  enum Number {
    case integer(Int)
    case double(Double)

    var double: Double {
      switch self {
      case .integer(let value): Double(value)
      case .double(let value): value
      }
    }
  }

  func number(_ value: TemplateValue) -> Number? {
    switch value {
    case .bool(let flag): .integer(flag ? 1 : 0)
    case .integer(let value): .integer(value)
    case .double(let value): .double(value)
    default: nil
    }
  }

  /// The integer that `value` is; `user` says what for, in the error.
  func integer(_ value: TemplateValue, _ user: String) throws(TemplateError) -> Int {
    guard case .integer(let integer) = number(value) else { throw unsuitable(value, user) }
    return integer
  }

  func unsuitable(_ value: TemplateValue, _ user: String) -> TemplateError {
    if case .undefined(let message) = value { return failure(message) }
    return failure("\(user) does not take a value of type '\(value.typeName)'")
  }

  // MARK: - Arithmetic

  mutating func calculate(
    _ left: TemplateValue, _ operation: TemplateExpression.Arithmetic, _ right: TemplateValue
  ) throws(TemplateError) -> TemplateValue {
    if let a = number(left), let b = number(right) {
      if case .integer(let a) = a, case .integer(let b) = b {
        return try calculate(a, operation, b)
      }
      return .double(try calculate(a.double, operation, b.double))
    }
    switch (operation, left, right) {
    case (.add, .string(let a), .string(let b)):
      try charge(a.utf8.count + b.utf8.count)
      return .string(TemplateText(utf8: a.utf8 + b.utf8))
    case (.add, .array(let a), .array(let b)): return .array(try list(a.elements + b.elements))
    case (.add, .tuple(let a), .tuple(let b)): return .tuple(try list(a.elements + b.elements))
    case (.multiply, .string(let text), let times), (.multiply, let times, .string(let text)):
      let count = max(try integer(times, "'*'"), 0)
      try charge(count, times: text.utf8.count)
      return .string(TemplateText(utf8: repeated(text.utf8, count)))
    case (.multiply, .array(let a), let times), (.multiply, let times, .array(let a)):
      return .array(try list(try repeated(a, times)))
    case (.multiply, .tuple(let a), let times), (.multiply, let times, .tuple(let a)):
      return .tuple(try list(try repeated(a, times)))
    case (_, .undefined(let message), _), (_, _, .undefined(let message)): throw failure(message)
    case (.remainder, .string, _): throw failure("formatting a string with '%' is not supported")
    default:
      throw failure(
        "'\(operation.rawValue)' is not defined for '\(left.typeName)' and '\(right.typeName)'")
    }
  }

  private mutating func repeated(
    _ list: TemplateList, _ times: TemplateValue
  ) throws(TemplateError) -> [TemplateValue] {
    let count = max(try integer(times, "'*'"), 0)
    let (total, overflow) = count.multipliedReportingOverflow(by: list.elements.count)
    try charge(overflow ? .max : total, times: TemplateLimits.elementBytes)
    return repeated(list.elements, count)
  }

  /// The caller has charged for the result.
  private func repeated<Element>(_ elements: [Element], _ count: Int) -> [Element] {
    if elements.isEmpty { return [] }
    var result: [Element] = []
    result.reserveCapacity(elements.count * count)
    for _ in 0..<count { result += elements }
    return result
  }

  private func calculate(
    _ a: Int, _ operation: TemplateExpression.Arithmetic, _ b: Int
  ) throws(TemplateError) -> TemplateValue {
    let result: (partialValue: Int, overflow: Bool)
    switch operation {
    case .add: result = a.addingReportingOverflow(b)
    case .subtract: result = a.subtractingReportingOverflow(b)
    case .multiply: result = a.multipliedReportingOverflow(by: b)
    case .divide:
      guard b != 0 else { throw failure("division by zero") }
      return .double(Self.quotient(a, b))
    case .floorDivide:
      guard b != 0 else { throw failure("division by zero") }
      result = a.dividedReportingOverflow(by: b)
      if !result.overflow, a % b != 0, (a < 0) != (b < 0) {
        return .integer(result.partialValue - 1)
      }
    case .remainder:
      guard b != 0 else { throw failure("division by zero") }
      if b == -1 { return .integer(0) }
      let remainder = a % b
      return .integer(remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder)
    case .power:
      if b < 0 { return .double(try calculate(Double(a), .power, Double(b))) }
      result = power(a, b)
    }
    guard !result.overflow else {
      throw failure("integer overflow in '\(operation.rawValue)'")
    }
    return .integer(result.partialValue)
  }

  /// a / b rounded once, also where a or b has more bits than a `Double`.
  private static func quotient(_ a: Int, _ b: Int) -> Double {
    if a.magnitude <= 1 << 53, b.magnitude <= 1 << 53 { return Double(a) / Double(b) }
    // Scale both to 64 bits; the quotient then has 64 bits, and a remainder sets the lowest.
    let (scaleA, scaleB) = (a.magnitude.leadingZeroBitCount, b.magnitude.leadingZeroBitCount)
    let (high, divisor) = ((a.magnitude << scaleA) >> 1, b.magnitude << scaleB)
    if high == 0 { return 0 }
    let (bits, remainder) = divisor.dividingFullWidth((high, (a.magnitude << scaleA) << 63))
    let size = Double(bits | (remainder == 0 ? 0 : 1))
    let exponent = scaleB - scaleA - 63
    return Double(sign: (a < 0) != (b < 0) ? .minus : .plus, exponent: exponent, significand: size)
  }

  private func power(_ base: Int, _ exponent: Int) -> (partialValue: Int, overflow: Bool) {
    // 0, 1 and -1 never overflow; any other base does before exponent 64.
    if base == 0 { return (exponent == 0 ? 1 : 0, false) }
    if base == 1 || base == -1 { return (exponent % 2 == 0 ? 1 : base, false) }
    guard exponent < 64 else { return (0, true) }
    var result = 1
    for _ in 0..<exponent {
      let (product, overflow) = result.multipliedReportingOverflow(by: base)
      if overflow { return (0, true) }
      result = product
    }
    return (result, false)
  }

  private func calculate(
    _ a: Double, _ operation: TemplateExpression.Arithmetic, _ b: Double
  ) throws(TemplateError) -> Double {
    switch operation {
    case .add: return a + b
    case .subtract: return a - b
    case .multiply: return a * b
    case .divide:
      guard b != 0 else { throw failure("division by zero") }
      return a / b
    case .floorDivide:
      guard b != 0 else { throw failure("division by zero") }
      let quotient = (a - floorRemainder(a, b)) / b
      // The division may be off by a little, which must not cost a whole unit.
      let floor = quotient.rounded(.down)
      return quotient - floor > 0.5 ? floor + 1 : floor
    case .remainder:
      guard b != 0 else { throw failure("division by zero") }
      return floorRemainder(a, b)
    case .power:
      if a == 0, b < 0 { throw failure("zero to a negative power") }
      let result = pow(a, b)
      if a.isFinite, b.isFinite, !result.isFinite {
        throw failure(result.isNaN ? "'**' gives a complex number" : "float overflow in '**'")
      }
      return result
    }
  }

  /// The remainder that has the sign of the divisor.
  private func floorRemainder(_ a: Double, _ b: Double) -> Double {
    let remainder = a.truncatingRemainder(dividingBy: b)
    if remainder == 0 { return b < 0 ? -0.0 : 0.0 }
    return (remainder < 0) != (b < 0) ? remainder + b : remainder
  }

  func negate(_ value: TemplateValue) throws(TemplateError) -> TemplateValue {
    switch number(value) {
    case .integer(let number):
      guard number != .min else { throw failure("integer overflow in unary '-'") }
      return .integer(-number)
    case .double(let number): return .double(-number)
    case nil: throw unsuitable(value, "unary '-'")
    }
  }

  // MARK: - Comparison

  mutating func compare(
    _ left: TemplateValue, _ comparison: TemplateExpression.Comparison, _ right: TemplateValue
  ) throws(TemplateError) -> Bool {
    switch comparison {
    case .equal: return try isEqual(left, right)
    case .unequal: return !(try isEqual(left, right))
    case .less: return try isOrdered(left, right, orEqual: false, comparison)
    case .lessOrEqual: return try isOrdered(left, right, orEqual: true, comparison)
    case .greater: return try isOrdered(right, left, orEqual: false, comparison)
    case .greaterOrEqual: return try isOrdered(right, left, orEqual: true, comparison)
    case .isIn: return try contains(right, left)
    case .isNotIn: return !(try contains(right, left))
    }
  }

  mutating func isEqual(_ a: TemplateValue, _ b: TemplateValue) throws(TemplateError) -> Bool {
    try step()
    switch (a, b) {
    case (.undefined, .undefined), (.none, .none): return true
    case (.string(let a), .string(let b)):
      guard a.utf8.count == b.utf8.count else { return false }
      try charge(a.utf8.count)
      return a.utf8 == b.utf8
    case (.array(let a), .array(let b)), (.tuple(let a), .tuple(let b)):
      return try areEqual(a.elements, b.elements)
    case (.object(let a), .object(let b)):
      guard a.count == b.count else { return false }
      for (name, value) in zip(a.keys, a.values) {
        guard let key = try key(name), let other = b[key], try isEqual(value, other) else {
          return false
        }
      }
      return true
    case (.range(let a), .range(let b)):
      guard a.count == b.count else { return false }
      return try areEqual(a.values, b.values)
    case (.view, .view): throw failure("comparing dictionary views is not supported")
    default: break
    }
    if let a = number(a), let b = number(b) { return Self.order(a, b) == .equal }
    if let a = TemplateKey(a), let b = TemplateKey(b), case .identity = a { return a == b }
    return false
  }

  private mutating func areEqual(
    _ a: [TemplateValue], _ b: [TemplateValue]
  ) throws(TemplateError) -> Bool {
    guard a.count == b.count else { return false }
    for (a, b) in zip(a, b) where !(try isEqual(a, b)) { return false }
    return true
  }

  enum Order { case less, equal, greater, none }

  /// Compares exactly, also integers that no `Double` holds; `none` where one is no number.
  static func order(_ a: Number, _ b: Number) -> Order {
    switch (a, b) {
    case (.integer(let a), .integer(let b)): return a < b ? .less : a == b ? .equal : .greater
    case (.double(let a), .double(let b)):
      return a < b ? .less : a == b ? .equal : a > b ? .greater : .none
    case (.double, .integer):
      switch order(b, a) {
      case .less: return .greater
      case .greater: return .less
      case let same: return same
      }
    case (.integer(let a), .double(let b)):
      if b.isNaN { return .none }
      if b >= 0x1p63 { return .less }
      if b < -0x1p63 { return .greater }
      let whole = b.rounded(.down)
      let floor = Int(whole)
      return a < floor ? .less : a > floor ? .greater : whole == b ? .equal : .less
    }
  }

  /// Whether `a < b` or, with `orEqual`, `a <= b`.
  mutating func isOrdered(
    _ a: TemplateValue, _ b: TemplateValue, orEqual: Bool,
    _ comparison: TemplateExpression.Comparison = .less
  ) throws(TemplateError) -> Bool {
    try step()
    if let a = number(a), let b = number(b) {
      let order = Self.order(a, b)
      return order == .less || (orEqual && order == .equal)
    }
    switch (a, b) {
    case (.string(let a), .string(let b)):
      try charge(min(a.utf8.count, b.utf8.count))
      return a < b || (orEqual && a.utf8 == b.utf8)
    case (.array(let a), .array(let b)), (.tuple(let a), .tuple(let b)):
      for (a, b) in zip(a.elements, b.elements) where !(try isEqual(a, b)) {
        return try isOrdered(a, b, orEqual: orEqual, comparison)
      }
      return a.elements.count < b.elements.count
        || (orEqual && a.elements.count == b.elements.count)
    case (.undefined(let message), _), (_, .undefined(let message)): throw failure(message)
    default:
      throw failure(
        "'\(comparison.rawValue)' is not defined between '\(a.typeName)' and '\(b.typeName)'")
    }
  }

  /// Python's `element in container`.
  mutating func contains(
    _ container: TemplateValue, _ element: TemplateValue
  ) throws(TemplateError) -> Bool {
    switch container {
    case .string(let text):
      guard case .string(let part) = element else { throw unsuitable(element, "'in' a string") }
      try charge(text.utf8.count)
      return text.contains(part)
    case .object(let object), .view(let object, .keys):
      if case nil = object[try requiredKey(element)] { return false }
      return true
    default:
      for candidate in try elements(of: container) where try isEqual(candidate, element) {
        return true
      }
      return false
    }
  }
}
