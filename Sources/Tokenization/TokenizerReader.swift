import JSON

/// Reads tokenizer.json. The vocabulary and the merges go straight into tables, without a tree.
struct TokenizerReader {
  private var addedTokens: [AddedToken] = []
  private var preTokenizer: PreTokenizer?
  private var decodesBytes: Bool?
  private var model: BPEModelReader?

  /// Throws `TokenizerError`.
  static func read(_ json: [UInt8]) throws -> Tokenizer {
    do {
      return try json.withUnsafeBufferPointer { bytes in
        var reader = TokenizerReader()
        var scanner = JSONScanner(bytes)
        try reader.readDocument(&scanner)
        try scanner.end()
        return try reader.tokenizer()
      }
    } catch let error as JSONError {
      throw TokenizerError.malformed(reason: error.reason, offset: error.offset)
    }
  }

  private mutating func readDocument(_ scanner: inout JSONScanner) throws {
    var seen = SeenKeys()
    try scanner.object { scanner, key in
      try seen.add(key, in: "the document")
      switch key {
      case "version":
        let version = try scanner.value()
        guard version == .string("1.0") else { throw unsupported("version", version) }
      case "truncation", "padding": try scanner.skip()
      case "normalizer":
        let normalizer = try scanner.value()
        guard normalizer.isNull else { throw unsupported("normalizer", normalizer) }
      case "added_tokens":
        addedTokens = []
        try scanner.array { scanner in
          addedTokens.append(try ComponentReader.addedToken(scanner.value(), addedTokens.count))
        }
      case "pre_tokenizer": preTokenizer = try ComponentReader.preTokenizer(scanner.value())
      case "post_processor":
        let processor = try scanner.value()
        guard ComponentReader.addsNothing(processor) else {
          throw unsupported("post_processor", processor)
        }
      case "decoder":
        let decoder = try scanner.value()
        guard decoder.isNull || decoder["type"]?.string == "ByteLevel" else {
          throw unsupported("decoder", decoder)
        }
        decodesBytes = !decoder.isNull
      case "model": model = try BPEModelReader(&scanner)
      default: throw TokenizerError.unsupported(component: "the key \"\(key)\"")
      }
    }
  }

  private consuming func tokenizer() throws -> Tokenizer {
    guard let model else { throw TokenizerError.missing(component: "model") }
    guard let preTokenizer else { throw TokenizerError.missing(component: "pre_tokenizer") }
    let (vocabulary, encoding) = try model.finish(addedTokens)
    return Tokenizer(
      vocabulary: vocabulary, encoding: encoding, preTokenizer: preTokenizer,
      decodesBytes: decodesBytes ?? false, addedTokens: addedTokens)
  }
}

/// The error for a component that is not executed: its place and its type or value.
func unsupported(_ place: String, _ component: JSONValue) -> TokenizerError {
  let what =
    switch component {
    case .object: component["type"]?.string ?? "without a type"
    case .string(let value): "\"\(value)\""
    case .bool(let value): "\(value)"
    case .integer(let value): "\(value)"
    case .double(let value): "\(value)"
    case .null, .array: component.kind
    }
  return TokenizerError.unsupported(component: "\(place) \(what)")
}

/// Refuses duplicate keys of objects that are read without a tree.
struct SeenKeys {
  private var keys: [String] = []

  /// Few different keys are known and others are refused, so a list is enough.
  mutating func add(_ key: String, in place: String) throws {
    guard !keys.contains(where: { $0.utf8.elementsEqual(key.utf8) }) else {
      throw TokenizerError.invalid(component: place, reason: "the key \"\(key)\" occurs twice")
    }
    keys.append(key)
  }
}
