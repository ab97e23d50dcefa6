extension TemplateInterpreter {
  /// `value.name`: an attribute, else the element of that name.
  mutating func attribute(
    _ name: String, of value: TemplateValue
  ) throws(TemplateError) -> TemplateValue {
    try charge(name.utf8.count)
    if let attribute = try pythonAttribute(name, of: value) { return attribute }
    if case .object(let object) = value, let element = object[.text(TemplateText(name))] {
      return element
    }
    return missing(name, of: value)
  }

  /// `value[index]`: an element, else the attribute of that name.
  mutating func element(
    _ index: TemplateValue, of value: TemplateValue
  ) throws(TemplateError) -> TemplateValue {
    if case .string(let name) = index { try charge(name.utf8.count) }
    switch value {
    case .undefined(let message): throw failure(message)
    case .object(let object):
      if let key = try key(index), let element = object[key] { return element }
    case .array(let list), .tuple(let list):
      if let position = position(index, count: list.elements.count) {
        return list.elements[position]
      }
    case .string(let text):
      if let position = position(index, count: text.count) {
        try charge(text.isASCII ? 1 : text.utf8.count)
        return .string(text[position..<position + 1])
      }
    case .range(let range):
      if let position = position(index, count: range.count) { return .integer(range[position]) }
    default: break
    }
    if case .string(let name) = index, let attribute = try pythonAttribute(name.string, of: value) {
      return attribute
    }
    return missing(display(index), of: value)
  }

  private func missing(_ name: String, of value: TemplateValue) -> TemplateValue {
    .undefined("a value of type '\(value.typeName)' has no '\(Self.shown(name))'")
  }

  /// A short form of an index for an error message.
  private func display(_ index: TemplateValue) -> String {
    switch index {
    case .string(let text): text.string
    case .integer(let value): "\(value)"
    default: index.typeName
    }
  }

  /// An attribute that Python objects of this type have; nil if there is none. What Jinja's sandbox
  /// hides is undefined.
  private mutating func pythonAttribute(
    _ name: String, of value: TemplateValue
  ) throws(TemplateError) -> TemplateValue? {
    switch value {
    case .undefined(let message): throw failure(message)
    case .loop(let index): return try attribute(name, ofLoop: index)
    case .namespace(let index): return namespaces[index][.text(TemplateText(name))]
    case .range(let range):
      switch name {
      case "start": return .integer(range.start)
      case "stop": return .integer(range.stop)
      case "step": return .integer(range.step)
      default: break
      }
    default: break
    }
    if name.hasPrefix("__"), name.hasSuffix("__") {
      return .undefined("access to the attribute '\(Self.shown(name))' is unsafe")
    }
    let methods = TemplateMethods.of(value)
    if methods.supported.contains(name) { return .method(value, name) }
    if methods.unsafe.contains(name) {
      return .undefined("access to the attribute '\(Self.shown(name))' is unsafe")
    }
    if methods.unsupported.contains(name) {
      throw failure("the method '\(name)' of '\(value.typeName)' is not supported")
    }
    return nil
  }

  /// A non-negative position for an index that may count from the end; nil where out of range or no
  /// integer.
  private func position(_ index: TemplateValue, count: Int) -> Int? {
    let number: Int
    switch index {
    case .integer(let value): number = value
    case .bool(let value): number = value ? 1 : 0
    default: return nil
    }
    let position = number < 0 ? number + count : number
    return (0..<count).contains(position) ? position : nil
  }

  // MARK: - Slices

  mutating func slice(
    _ value: TemplateValue, _ start: TemplateValue, _ stop: TemplateValue, _ step: TemplateValue
  ) throws(TemplateError) -> TemplateValue {
    let count: Int
    switch value {
    case .undefined(let message): throw failure(message)
    case .string(let text): count = text.count
    case .array(let list), .tuple(let list): count = list.elements.count
    case .range(let range): count = range.count
    default: throw failure("a value of type '\(value.typeName)' cannot be sliced")
    }
    let step = try bound(step) ?? 1
    guard step != 0 else { throw failure("the step of a slice is 0") }
    let low = step > 0 ? 0 : -1
    let high = step > 0 ? count : count - 1
    func clamp(_ bound: Int?, _ missing: Int) -> Int {
      guard let bound else { return missing }
      return bound < 0 ? max(bound + count, low) : min(bound, high)
    }
    let first = clamp(try bound(start), step > 0 ? low : high)
    let end = clamp(try bound(stop), step > 0 ? high : low)
    let length = Self.count(from: first, to: end, by: max(step, -.max)) ?? 0
    return try take(value, from: first, to: end, by: step, count: length)
  }

  private func bound(_ value: TemplateValue) throws(TemplateError) -> Int? {
    if case .none = value { return nil }
    return try integer(value, "a slice")
  }

  private mutating func take(
    _ value: TemplateValue, from first: Int, to end: Int, by step: Int, count: Int
  ) throws(TemplateError) -> TemplateValue {
    // Only used up to `count`, so that the product cannot overflow.
    let position = { (index: Int) -> Int in first + index * step }
    switch value {
    case .string(let text):
      try charge(text.utf8.count)
      if step == 1 { return .string(text[first..<first + count]) }
      if text.isASCII {
        return .string(TemplateText(utf8: (0..<count).map { text.utf8[position($0)] }))
      }
      let scalars = text.scalars
      return .string(TemplateText((0..<count).map { scalars[position($0)] }))
    case .array(let elements):
      return .array(try list((0..<count).map { elements.elements[position($0)] }))
    case .tuple(let elements):
      return .tuple(try list((0..<count).map { elements.elements[position($0)] }))
    case .range(let range):
      let (stride, isTooSteep) = range.step.multipliedReportingOverflow(by: step)
      guard !isTooSteep, let start = range.bound(first), let stop = range.bound(end) else {
        throw failure("integer overflow in a slice")
      }
      return .range(TemplateRange(start: start, stop: stop, step: stride, count: count))
    default: throw failure("a value of type '\(value.typeName)' cannot be sliced")
    }
  }

  // MARK: - Iteration

  /// All elements that Python's iteration over `value` gives.
  mutating func elements(of value: TemplateValue) throws(TemplateError) -> [TemplateValue] {
    switch value {
    case .undefined: return []
    case .array(let list), .tuple(let list): return list.elements
    case .object(let object): return object.keys
    case .view(let object, let view):
      try charge(object.count, times: 3 * TemplateLimits.elementBytes)
      return object.elements(view)
    case .string(let text):
      try charge(text.count, times: 2 * TemplateLimits.elementBytes)
      return text.characters.map { .string($0) }
    case .range(let range):
      try charge(range.count, times: TemplateLimits.elementBytes)
      return range.values
    case .iterator(let index):
      let rest = Array(iterators[index].elements[iterators[index].next...])
      iterators[index] = ([], 0)
      return rest
    default: throw failure("a value of type '\(value.typeName)' cannot be iterated")
    }
  }

  /// Python's `len`; nil for values that have none.
  mutating func length(of value: TemplateValue) throws(TemplateError) -> Int? {
    switch value {
    case .undefined: 0
    case .string(let text): text.count
    case .array(let list), .tuple(let list): list.elements.count
    case .object(let object), .view(let object, _): object.count
    case .range(let range): range.count
    case .loop(let index): try length(ofLoop: index)
    default: nil
    }
  }

  func isTrue(_ value: TemplateValue) throws(TemplateError) -> Bool {
    switch value {
    case .undefined, .none: false
    case .bool(let value): value
    case .integer(let value): value != 0
    case .double(let value): value != 0
    case .string(let text): !text.isEmpty
    case .array(let list), .tuple(let list): !list.elements.isEmpty
    case .object(let object), .view(let object, _): object.count > 0
    case .range(let range): range.count > 0
    case .iterator, .namespace, .macro, .loop, .function, .method: true
    }
  }

  // MARK: - Keys

  /// The key that `value` is in a dictionary; nil where it cannot be one.
  mutating func key(_ value: TemplateValue) throws(TemplateError) -> TemplateKey? {
    try step()
    switch value {
    case .string(let text): try charge(text.utf8.count)
    case .tuple(let list):
      var keys: [TemplateKey] = []
      for element in list.elements {
        guard let key = try key(element) else { return nil }
        keys.append(key)
      }
      try charge(keys.count, times: TemplateLimits.elementBytes)
      return .tuple(keys)
    default: break
    }
    return TemplateKey(value)
  }

  mutating func requiredKey(_ value: TemplateValue) throws(TemplateError) -> TemplateKey {
    guard let key = try key(value) else {
      throw failure("a value of type '\(value.typeName)' cannot be a dictionary key")
    }
    return key
  }
}
