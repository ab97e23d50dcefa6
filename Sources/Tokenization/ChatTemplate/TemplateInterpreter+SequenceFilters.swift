extension TemplateInterpreter {
  mutating func filter(
    sequence filter: Filter, _ value: TemplateValue, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    let name = filter.rawValue
    switch filter {
    case .length, .count:
      _ = try bind(call, name, [])
      guard let length = try length(of: value) else { throw unsuitable(value, "'\(name)'") }
      return .integer(length)
    case .first:
      _ = try bind(call, name, [])
      if case .iterator(let index) = value { return next(ofIterator: index) }
      return try elements(of: value).first ?? .undefined("the sequence is empty")
    case .last:
      _ = try bind(call, name, [])
      if case .iterator = value { throw unsuitable(value, "'last'") }
      return try elements(of: value).last ?? .undefined("the sequence is empty")
    case .list:
      _ = try bind(call, name, [])
      return .array(try list(try elements(of: value)))
    case .reverse:
      _ = try bind(call, name, [])
      if case .string = value { return try slice(value, .none, .none, .integer(-1)) }
      let reversed = Array(try elements(of: value).reversed())
      if case .iterator = value { return .array(try list(reversed)) }
      return try iterator(reversed)
    case .items:
      _ = try bind(call, name, [])
      switch value {
      case .undefined: return try iterator([])
      case .object(let object):
        try charge(object.count, times: 2 * TemplateLimits.elementBytes)
        return try iterator(object.items())
      default: throw failure("'items' needs a dictionary")
      }
    case .join:
      let bound = try bind(call, name, ["d", "attribute"])
      let path = try attributePath(bound[1] ?? .none)
      var parts: [TemplateText] = []
      for element in try elements(of: value) {
        parts.append(try string(try follow(path, from: element)))
      }
      return .string(try join(parts, by: try string(bound[0] ?? .text(""))))
    case .map: return try map(value, call)
    case .select, .reject, .selectattr, .rejectattr: return try select(filter, value, call)
    case .dictsort: return try sortEntries(value, call)
    default: return try order(filter, value, call)
    }
  }

  private mutating func next(ofIterator index: Int) -> TemplateValue {
    guard iterators[index].next < iterators[index].elements.count else {
      return .undefined("the sequence is empty")
    }
    iterators[index].next += 1
    return iterators[index].elements[iterators[index].next - 1]
  }

  // MARK: - Attribute paths

  /// The indexes that an attribute argument such as `"function.name"` or `0` stands for.
  mutating func attributePath(
    _ attribute: TemplateValue
  ) throws(TemplateError) -> [TemplateValue] {
    switch attribute {
    case .none: return []
    case .string(let text):
      try charge(text.utf8.count, times: TemplateLimits.elementBytes)
      let parts = text.string.split(separator: ".", omittingEmptySubsequences: false)
      return parts.map { part in
        let isNumber = !part.isEmpty && part.utf8.allSatisfy { (0x30...0x39).contains($0) }
        return isNumber
          ? Int(part).map { .integer($0) } ?? .text(String(part)) : .text(String(part))
      }
    default: return [attribute]
    }
  }

  mutating func follow(
    _ path: [TemplateValue], from value: TemplateValue, default missing: TemplateValue = .none
  ) throws(TemplateError) -> TemplateValue {
    try step()
    var value = value
    for part in path {
      try step()
      value = try element(part, of: value)
      if value.isUndefined, case .none = missing {} else if value.isUndefined { value = missing }
    }
    return value
  }

  // MARK: - Map and select

  private mutating func map(
    _ value: TemplateValue, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    guard try isTrue(value) else { return try iterator([]) }
    var results: [TemplateValue] = []
    if call.positional.isEmpty, call.keywords.contains(where: { $0.name == "attribute" }) {
      let bound = try bind(call, "map", ["attribute", "default"])
      let path = try attributePath(bound[0]!)
      for element in try elements(of: value) {
        results.append(try follow(path, from: element, default: bound[1] ?? .none))
      }
    } else {
      guard case .string(let name) = call.positional.first else {
        throw failure("'map' needs the name of a filter or 'attribute'")
      }
      var inner = call
      inner.positional.removeFirst()
      try descend()
      for element in try elements(of: value) {
        try step()
        results.append(try filter(name.string, element, inner))
      }
      depth -= 1
    }
    return try iterator(results)
  }

  private mutating func select(
    _ filter: Filter, _ value: TemplateValue, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    guard try isTrue(value) else { return try iterator([]) }
    let wanted = filter == .select || filter == .selectattr
    var inner = call
    var path: [TemplateValue] = []
    if filter == .selectattr || filter == .rejectattr {
      guard !inner.positional.isEmpty else {
        throw failure("'\(filter.rawValue)' needs the name of an attribute")
      }
      path = try attributePath(inner.positional.removeFirst())
    }
    var testName: String?
    if !inner.positional.isEmpty {
      guard case .string(let name) = inner.positional.removeFirst() else {
        throw failure("'\(filter.rawValue)' needs the name of a test")
      }
      testName = name.string
    }
    var results: [TemplateValue] = []
    for element in try elements(of: value) {
      let subject = try follow(path, from: element)
      let passes: Bool
      if let testName {
        passes = try test(testName, subject, inner)
      } else {
        passes = try isTrue(subject)
      }
      if passes == wanted { results.append(element) }
    }
    return try iterator(results)
  }

  // MARK: - Order

  /// Sorts stably; the keys' indexes in the order of the keys.
  mutating func sortedIndexes(
    _ keys: [TemplateValue], reverse: Bool = false
  ) throws(TemplateError) -> [Int] {
    var order = Array(keys.indices)
    var width = 1
    while width < order.count {
      var merged: [Int] = []
      merged.reserveCapacity(order.count)
      for start in stride(from: 0, to: order.count, by: 2 * width) {
        let middle = min(start + width, order.count)
        let end = min(start + 2 * width, order.count)
        var (left, right) = (start, middle)
        while left < middle, right < end {
          let (a, b) = (keys[order[left]], keys[order[right]])
          // The right one goes first only where it must.
          let swap =
            reverse
            ? try isOrdered(a, b, orEqual: false) : try isOrdered(b, a, orEqual: false)
          merged.append(order[swap ? right : left])
          if swap { right += 1 } else { left += 1 }
        }
        merged += order[left..<middle]
        merged += order[right..<end]
      }
      order = merged
      width *= 2
    }
    return order
  }

  /// Strings in lower case, unless case matters; other values as they are.
  private mutating func folded(
    _ value: TemplateValue, _ caseSensitive: Bool
  ) throws(TemplateError) -> TemplateValue {
    guard !caseSensitive, case .string(let text) = value else { return value }
    try charge(text.utf8.count)
    return .string(text.lowercased)
  }

  private mutating func sortEntries(
    _ value: TemplateValue, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    let bound = try bind(call, "dictsort", ["case_sensitive", "by", "reverse"])
    guard case .object(let object) = value else { throw unsuitable(value, "'dictsort'") }
    var caseSensitive = false
    var reverse = false
    if let flag = bound[0] { caseSensitive = try isTrue(flag) }
    if let flag = bound[2] { reverse = try integer(flag, "'reverse'") != 0 }
    let order = try string(bound[1] ?? .text("key"))
    try charge(order.utf8.count)
    let by = order.string
    guard by == "key" || by == "value" else {
      throw failure("'dictsort' sorts by \"key\" or \"value\"")
    }
    var keys: [TemplateValue] = []
    for key in by == "key" ? object.keys : object.values {
      keys.append(try folded(key, caseSensitive))
    }
    let items = object.items()
    try charge(items.count, times: 3 * TemplateLimits.elementBytes)
    return .array(try list(try sortedIndexes(keys, reverse: reverse).map { items[$0] }))
  }

  /// `sort`, `unique`, `min` and `max`.
  private mutating func order(
    _ filter: Filter, _ value: TemplateValue, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    let parameters = (filter == .sort ? ["reverse"] : []) + ["case_sensitive", "attribute"]
    let bound = try bind(call, filter.rawValue, parameters)
    var reverse = false
    var caseSensitive = false
    if filter == .sort, let flag = bound[0] { reverse = try integer(flag, "'reverse'") != 0 }
    if let flag = bound[parameters.count - 2] { caseSensitive = try isTrue(flag) }
    let attribute = bound[parameters.count - 1] ?? .none
    let elements = try elements(of: value)
    var keys: [TemplateValue] = []
    if filter == .sort {
      for element in elements { keys.append(try sortKey(element, attribute, caseSensitive)) }
      let order = try sortedIndexes(keys, reverse: reverse)
      return .array(try list(order.map { elements[$0] }))
    }
    let path = try attributePath(attribute)
    for element in elements {
      keys.append(try folded(try follow(path, from: element), caseSensitive))
    }
    if filter == .unique {
      var seen: Set<TemplateKey> = []
      var results: [TemplateValue] = []
      for (element, key) in zip(elements, keys) {
        if seen.insert(try requiredKey(key)).inserted { results.append(element) }
      }
      return try iterator(results)
    }
    guard !elements.isEmpty else { return .undefined("the sequence is empty") }
    var best = 0
    for index in 1..<max(keys.count, 1) {
      let (a, b) = filter == .min ? (keys[index], keys[best]) : (keys[best], keys[index])
      if try isOrdered(a, b, orEqual: false) { best = index }
    }
    return elements[best]
  }

  /// A list of the values of several attributes, separated by commas, or of one.
  private mutating func sortKey(
    _ element: TemplateValue, _ attribute: TemplateValue, _ caseSensitive: Bool
  ) throws(TemplateError) -> TemplateValue {
    var attributes = [attribute]
    if case .string(let text) = attribute {
      try charge(text.utf8.count, times: TemplateLimits.elementBytes)
      attributes = text.string.split(separator: ",", omittingEmptySubsequences: false)
        .map { .text(String($0)) }
    }
    var keys: [TemplateValue] = []
    for attribute in attributes {
      let value = try follow(try attributePath(attribute), from: element)
      keys.append(try folded(value, caseSensitive))
    }
    return .array(try list(keys))
  }
}
