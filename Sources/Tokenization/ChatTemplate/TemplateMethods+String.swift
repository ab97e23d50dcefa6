extension TemplateInterpreter {
  mutating func call(
    stringMethod name: String, of text: TemplateText, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    try charge(text.utf8.count)
    for case .string(let argument) in call.positional { try charge(argument.utf8.count) }
    switch name {
    case "split", "rsplit": return try split(name, text, call)
    case "splitlines":
      let bound = try bind(call, name, ["keepends"])
      let keep = try bound[0].map { value throws(TemplateError) in try isTrue(value) } ?? false
      return .array(try texts(text.lines(keepingEnds: keep)))
    case "startswith", "endswith": return .bool(try hasAffix(name, text, call))
    case "find", "rfind", "index": return .integer(try find(name, text, call))
    case "count":
      let (part, range) = try partAndRange(name, text, call)
      guard let range else { return .integer(0) }
      if part.isEmpty { return .integer(text[range].count + 1) }
      return .integer(try offsets(of: part, in: text[range], atMost: .max).count)
    case "replace":
      let bound = try bind(call, name, ["old", "new", "count"], required: 2, positionalOnly: true)
      guard case .string(let old) = bound[0], case .string(let new) = bound[1] else {
        throw failure("'replace' needs strings")
      }
      let count = try bound[2].map { value throws(TemplateError) in try integer(value, "'replace'")
      }
      return .string(try replace(old, by: new, in: text, atMost: count ?? -1))
    case "join":
      let bound = try bind(call, name, ["iterable"], required: 1, positionalOnly: true)
      var parts: [TemplateText] = []
      for element in try elements(of: bound[0]!) {
        guard case .string(let part) = element else { throw unsuitable(element, "'join'") }
        parts.append(part)
      }
      return .string(try join(parts, by: text))
    case "strip", "lstrip", "rstrip":
      let bound = try bind(call, name, ["chars"], positionalOnly: true)
      return .string(
        try strip(text, bound[0] ?? .none, start: name != "rstrip", end: name != "lstrip"))
    case "removeprefix", "removesuffix", "partition", "rpartition":
      let bound = try bind(call, name, ["part"], required: 1, positionalOnly: true)
      guard case .string(let part) = bound[0] else { throw failure("'\(name)' needs a string") }
      return try name.hasSuffix("partition")
        ? .tuple(list(partition(text, part, last: name == "rpartition")))
        : .string(remove(part, from: text, prefix: name == "removeprefix"))
    default:
      _ = try bind(call, name, [], positionalOnly: true)
      return try apply(caseMethod: name, to: text)
    }
  }

  private mutating func apply(
    caseMethod name: String, to text: TemplateText
  ) throws(TemplateError) -> TemplateValue {
    switch name {
    case "upper": return try self.text(text.uppercased.utf8)
    case "lower": return try self.text(text.lowercased.utf8)
    case "capitalize": return try self.text(text.capitalized.utf8)
    case "title": return try self.text(text.titlecased.utf8)
    case "isupper": return .bool(text.isCased(upper: true))
    case "islower": return .bool(text.isCased(upper: false))
    case "isspace":
      return .bool(!text.isEmpty && text.scalars.allSatisfy(TemplateText.isSpace))
    case "isalpha":
      return .bool(!text.isEmpty && text.scalars.allSatisfy(TemplateText.isLetter))
    case "isdigit":
      return .bool(
        !text.isEmpty
          && text.scalars.allSatisfy {
            $0.properties.numericType == .decimal || $0.properties.numericType == .digit
          })
    default: throw failure("the method '\(name)' of 'str' is not supported")
    }
  }

  // MARK: - Building

  /// A list of texts that were just made.
  mutating func texts(_ texts: [TemplateText]) throws(TemplateError) -> TemplateList {
    var bytes = 0
    for text in texts { bytes += text.utf8.count + TemplateLimits.elementBytes }
    try charge(bytes)
    return try list(texts.map { .string($0) })
  }

  mutating func join(
    _ parts: [TemplateText], by separator: TemplateText
  ) throws(TemplateError) -> TemplateText {
    try charge(max(parts.count - 1, 0), times: separator.utf8.count)
    var bytes: [UInt8] = []
    for (index, part) in parts.enumerated() {
      try charge(part.utf8.count)
      if index > 0 { bytes += separator.utf8 }
      bytes += part.utf8
    }
    return TemplateText(utf8: bytes)
  }

  mutating func strip(
    _ text: TemplateText, _ characters: TemplateValue, start: Bool, end: Bool
  ) throws(TemplateError) -> TemplateText {
    try charge(text.utf8.count)
    let set: Set<Unicode.Scalar>?
    switch characters {
    case .none: set = nil
    case .string(let characters):
      try charge(characters.utf8.count, times: 8)
      set = Set(characters.scalars)
    default: throw unsuitable(characters, "'strip'")
    }
    var scalars = text.scalars[...]
    let isStripped = { (scalar: Unicode.Scalar) in
      set?.contains(scalar) ?? TemplateText.isSpace(scalar)
    }
    if start { scalars = scalars.drop(while: isStripped) }
    if end { while let last = scalars.last, isStripped(last) { scalars.removeLast() } }
    return scalars.count == text.count ? text : TemplateText(scalars)
  }

  /// Byte offsets of the occurrences of `part`, which is not empty, that do not overlap.
  private mutating func offsets(
    of part: TemplateText, in text: TemplateText, atMost limit: Int
  ) throws(TemplateError) -> [Int] {
    var offsets: [Int] = []
    var start = 0
    while offsets.count < limit,
      let offset = TemplateText.firstOffset(of: part.utf8, in: text.utf8, from: start)
    {
      try step()
      offsets.append(offset)
      start = offset + part.utf8.count
    }
    return offsets
  }

  /// - Parameter limit: How many to replace; all if negative.
  mutating func replace(
    _ old: TemplateText, by new: TemplateText, in text: TemplateText, atMost limit: Int
  ) throws(TemplateError) -> TemplateText {
    let limit = limit < 0 ? Int.max : limit
    if limit == 0 { return text }
    try charge(text.utf8.count)
    if old.isEmpty {
      // Python inserts before every code point and at the end.
      let places = min(text.count + 1, limit)
      try charge(places, times: new.utf8.count + TemplateLimits.elementBytes)
      var bytes: [UInt8] = []
      for (index, character) in text.characters.enumerated() {
        if index < places { bytes += new.utf8 }
        bytes += character.utf8
      }
      if places > text.count { bytes += new.utf8 }
      return TemplateText(utf8: bytes)
    }
    let offsets = try offsets(of: old, in: text, atMost: limit)
    if offsets.isEmpty { return text }
    try charge(offsets.count, times: new.utf8.count)
    var bytes: [UInt8] = []
    var start = 0
    for offset in offsets {
      bytes += text.utf8[start..<offset]
      bytes += new.utf8
      start = offset + old.utf8.count
    }
    bytes += text.utf8[start...]
    return TemplateText(utf8: bytes)
  }

  // MARK: - Splitting

  private mutating func split(
    _ name: String, _ text: TemplateText, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    let bound = try bind(call, name, ["sep", "maxsplit"])
    var limit = Int.max
    if let value = bound[1] {
      let number = try integer(value, "'\(name)'")
      if number >= 0 { limit = number }
    }
    let fromEnd = name == "rsplit"
    switch bound[0] {
    case nil, .some(.none):
      return .array(try texts(text.words(atMost: limit, fromEnd: fromEnd)))
    case .string(let separator):
      guard !separator.isEmpty else { throw failure("'\(name)' has an empty separator") }
      if !fromEnd { return .array(try texts(try split(text, separator, limit))) }
      let parts = try split(text.bytesReversed, separator.bytesReversed, limit)
      return .array(try texts(parts.reversed().map(\.bytesReversed)))
    case .some(let other): throw unsuitable(other, "'\(name)'")
    }
  }

  private mutating func split(
    _ text: TemplateText, _ separator: TemplateText, _ limit: Int
  ) throws(TemplateError) -> [TemplateText] {
    var parts: [TemplateText] = []
    var start = 0
    for offset in try offsets(of: separator, in: text, atMost: limit) {
      parts.append(TemplateText(utf8: Array(text.utf8[start..<offset])))
      start = offset + separator.utf8.count
    }
    parts.append(TemplateText(utf8: Array(text.utf8[start...])))
    return parts
  }

  private mutating func partition(
    _ text: TemplateText, _ separator: TemplateText, last: Bool
  ) throws(TemplateError) -> [TemplateValue] {
    guard !separator.isEmpty else { throw failure("'partition' has an empty separator") }
    guard
      let offset = last
        ? text.lastOffset(of: separator)
        : TemplateText.firstOffset(of: separator.utf8, in: text.utf8)
    else {
      let whole = TemplateValue.string(text)
      return last ? [.text(""), .text(""), whole] : [whole, .text(""), .text("")]
    }
    let after = offset + separator.utf8.count
    return [
      try self.text(Array(text.utf8[..<offset])), .string(separator),
      try self.text(Array(text.utf8[after...])),
    ]
  }

  private func remove(_ part: TemplateText, from text: TemplateText, prefix: Bool) -> TemplateText {
    if prefix {
      return text.utf8.starts(with: part.utf8)
        ? TemplateText(utf8: Array(text.utf8.dropFirst(part.utf8.count))) : text
    }
    return text.hasSuffix(part)
      ? TemplateText(utf8: Array(text.utf8.dropLast(part.utf8.count))) : text
  }

  // MARK: - Searching

  /// The arguments `sub, start, end`; the range is of code points, nil where it is beyond the text.
  private func partAndRange(
    _ name: String, _ text: TemplateText, _ call: TemplateCall
  ) throws(TemplateError) -> (TemplateText, Range<Int>?) {
    let bound = try bind(call, name, ["sub", "start", "end"], required: 1, positionalOnly: true)
    guard case .string(let part) = bound[0] else { throw unsuitable(bound[0]!, "'\(name)'") }
    return (part, try range(name, text, bound[1], bound[2]))
  }

  private func range(
    _ name: String, _ text: TemplateText, _ start: TemplateValue?, _ end: TemplateValue?
  ) throws(TemplateError) -> Range<Int>? {
    func bound(_ value: TemplateValue?, _ missing: Int) throws(TemplateError) -> Int {
      switch value {
      case nil, .some(.none): return missing
      case .some(let value):
        let number = try integer(value, "'\(name)'")
        return number < 0 ? max(number + text.count, 0) : number
      }
    }
    let low = try bound(start, 0)
    let high = min(try bound(end, text.count), text.count)
    return low <= high ? low..<high : nil
  }

  private mutating func hasAffix(
    _ name: String, _ text: TemplateText, _ call: TemplateCall
  ) throws(TemplateError) -> Bool {
    let bound = try bind(call, name, ["affix", "start", "end"], required: 1, positionalOnly: true)
    var affixes = [bound[0]!]
    if case .tuple(let list) = bound[0] { affixes = list.elements }
    let range = try range(name, text, bound[1], bound[2])
    let part = range == 0..<text.count ? text : range.map { text[$0] }
    for affix in affixes {
      guard case .string(let affix) = affix else { throw unsuitable(affix, "'\(name)'") }
      try step()
      try charge(min(affix.utf8.count, text.utf8.count))
      guard let part else { continue }
      if name == "startswith" ? part.utf8.starts(with: affix.utf8) : part.hasSuffix(affix) {
        return true
      }
    }
    return false
  }

  private func find(
    _ name: String, _ text: TemplateText, _ call: TemplateCall
  ) throws(TemplateError) -> Int {
    let (part, range) = try partAndRange(name, text, call)
    if let range {
      let within = text[range]
      let offset =
        name == "rfind"
        ? within.lastOffset(of: part) : TemplateText.firstOffset(of: part.utf8, in: within.utf8)
      if let offset {
        return range.lowerBound + TemplateText(utf8: Array(within.utf8[..<offset])).count
      }
    }
    guard name != "index" else { throw failure("'index' does not find the string") }
    return -1
  }
}
