import JSON

/// The small components of tokenizer.json.
enum ComponentReader {
  /// Most pre-tokenizers in a sequence: each takes memory for its pattern and a pass over the text.
  private static let maximumSteps = 64

  /// Member `key` of a component, which must be of the kind that `get` asks for.
  private static func member<T>(
    _ component: JSONValue, _ key: String, _ place: String, _ get: (JSONValue) -> T?
  ) throws -> T {
    guard let value = component[key] else {
      throw TokenizerError.missing(component: "\(place).\(key)")
    }
    guard let result = get(value) else {
      throw TokenizerError.invalid(component: "\(place).\(key)", reason: "is \(value.kind)")
    }
    return result
  }

  static func addedToken(_ value: JSONValue, _ index: Int) throws -> AddedToken {
    let place = "added_tokens[\(index)]"
    guard value.object != nil else {
      throw TokenizerError.invalid(component: place, reason: "is \(value.kind)")
    }
    let id = try member(value, "id", place, \.integer)
    let content = try member(value, "content", place, \.string)
    guard let id = TokenID(exactly: id), id >= 0 else {
      throw TokenizerError.invalid(component: "\(place).id", reason: "\(id) is no token id")
    }
    let length = content.utf8.count
    guard (1...AddedTokenMatcher.maximumLength).contains(length) else {
      throw TokenizerError.invalid(
        component: "\(place).content",
        reason: "has \(length) bytes, not 1 to \(AddedTokenMatcher.maximumLength)")
    }
    return AddedToken(
      id: id, content: content,
      special: try member(value, "special", place, \.bool),
      singleWord: try member(value, "single_word", place, \.bool),
      leftStrip: try member(value, "lstrip", place, \.bool),
      rightStrip: try member(value, "rstrip", place, \.bool),
      normalized: try member(value, "normalized", place, \.bool))
  }

  /// Whether a post-processor leaves the ids of a text as they are: none, one that only moves offsets, or
  /// the template of nothing but the text that transformers 5 writes where there was none.
  static func addsNothing(_ processor: JSONValue) -> Bool {
    switch processor["type"]?.string {
    case nil: return processor.isNull
    case "ByteLevel": return true
    case "TemplateProcessing":
      let pieces = processor["single"]?.array ?? []
      return pieces.count == 1 && pieces[0]["Sequence"]?["id"] == .string("A")
    default: return false
    }
  }

  static func preTokenizer(_ value: JSONValue) throws -> PreTokenizer {
    var components: [(value: JSONValue, place: String)] = []
    try flatten(value, "pre_tokenizer", &components)
    guard components.count <= maximumSteps else {
      throw TokenizerError.invalid(
        component: "pre_tokenizer",
        reason: "has \(components.count) components, at most \(maximumSteps) are executed")
    }
    var steps: [PreTokenizer.Step] = []
    for (index, (component, place)) in components.enumerated() {
      let type = component["type"]?.string
      let isLast = index == components.count - 1
      switch type {
      case "ByteLevel" where isLast: steps += try byteLevel(component, place)
      case "Digits" where !isLast:
        steps.append(
          .digits(individual: try member(component, "individual_digits", place, \.bool)))
      case "Split" where !isLast: steps.append(.split(try split(component, place)))
      case "ByteLevel":
        throw TokenizerError.unsupported(component: "\(place) ByteLevel before another component")
      case "Digits", "Split":
        throw TokenizerError.unsupported(component: "\(place) \(type!) without ByteLevel behind it")
      default: throw unsupported(place, component)
      }
    }
    return PreTokenizer(steps: steps)
  }

  /// The components of nested sequences in the order in which they run; at least one.
  private static func flatten(
    _ component: JSONValue, _ place: String, _ result: inout [(value: JSONValue, place: String)]
  ) throws {
    guard component["type"]?.string == "Sequence" else {
      result.append((component, place))
      return
    }
    let components = try member(component, "pretokenizers", place, \.array)
    let list = "\(place).pretokenizers"
    guard !components.isEmpty else {
      throw TokenizerError.invalid(component: list, reason: "is empty")
    }
    for (index, component) in components.enumerated() {
      try flatten(component, "\(list)[\(index)]", &result)
    }
  }

  private static func byteLevel(
    _ component: JSONValue, _ place: String
  ) throws -> [PreTokenizer.Step] {
    var steps: [PreTokenizer.Step] = []
    if try member(component, "add_prefix_space", place, \.bool) { steps.append(.prefixBlank) }
    let usesRegex =
      try component["use_regex"] == nil || member(component, "use_regex", place, \.bool)
    if usesRegex {
      let pattern = try Pattern(regex: Splitter.gpt2)
      steps.append(.split(Splitter(pattern: pattern, behavior: .isolated, invert: false)))
    }
    return steps
  }

  private static func split(_ component: JSONValue, _ place: String) throws -> Splitter {
    let name = try member(component, "behavior", place, \.string)
    guard let behavior = Splitter.Behavior(rawValue: name) else {
      throw TokenizerError.unsupported(component: "\(place).behavior \(name)")
    }
    let invert = try member(component, "invert", place, \.bool)
    let members = try member(component, "pattern", place, \.object).members
    guard members.count == 1, let (kind, value) = members.first, let text = value.string else {
      throw TokenizerError.invalid(
        component: "\(place).pattern", reason: "is neither a Regex nor a String")
    }
    let pattern =
      switch kind {
      case "Regex": try Pattern(regex: text)
      case "String": try Pattern(literal: text)
      default: throw TokenizerError.unsupported(component: "\(place).pattern \(kind)")
      }
    return Splitter(pattern: pattern, behavior: behavior, invert: invert)
  }
}
