import Inference
import JSON
import ModelFiles
import Tokenization

/// A tokenizer as llama.cpp reads it from metadata: vocabulary, merges, and the name of a pre-tokenizer
/// that is compiled into llama.cpp.
struct GGUFTokenizer {
  private(set) var metadata: [(key: String, value: GGUFMetadata)] = []
  private let slab: Slab

  /// Types of tokens in llama.cpp.
  private enum TokenType: Int32 { case normal = 1, control = 3, userDefined = 4, unused = 5 }

  /// - Throws: ``ExportError/unsupported(path:what:instead:)`` for what llama.cpp has no name for.
  init(slab: Slab, assets: ModelAssets) throws {
    self.slab = slab
    guard let result = assets.tokenizer, let json = slab.asset(named: "tokenizer.json") else {
      metadata = [("tokenizer.ggml.model", .string("none"))]
      return
    }
    let tokenizer: Tokenizer
    do { tokenizer = try result.get() } catch {
      throw refusal("the tokenizer is not executed: \(error)")
    }
    let document = try JSONValue(parsing: json)
    let settings = try slab.asset(named: "tokenizer_config.json").map { try JSONValue(parsing: $0) }
    add("model", .string("gpt2"))
    add("pre", .string(try preTokenizer(document["pre_tokenizer"], settings)))
    try addTokens(of: tokenizer, vocabularySize: assets.configuration.vocabularySize)
    add("merges", .strings(Self.merges(document["model"]?["merges"])))
    addSpecialTokens(of: tokenizer, assets)
    // Quarry's tokenizers, like those of Granite, put no token before or behind a text.
    add("add_bos_token", .bool(false))
    add("add_space_prefix", .bool(false))
    if let template = assets.chatTemplateSource {
      metadata.append(("tokenizer.chat_template", .string(template)))
    }
  }

  private mutating func add(_ key: String, _ value: GGUFMetadata) {
    metadata.append(("tokenizer.ggml." + key, value))
  }

  private func refusal(_ what: String) -> ExportError {
    .unsupported(
      path: slab.path, what: what,
      instead: "write a directory instead (--to safetensors), which holds the tokenizer as it came")
  }

  private mutating func addTokens(of tokenizer: Tokenizer, vocabularySize: Int) throws {
    guard tokenizer.vocabularySize <= vocabularySize else {
      throw refusal(
        "the tokenizer has \(tokenizer.vocabularySize) tokens, the model \(vocabularySize)")
    }
    var tokens = (0..<tokenizer.vocabularySize).map { tokenizer.piece(TokenID($0))! }
    var types = [Int32](repeating: TokenType.normal.rawValue, count: tokens.count)
    for token in tokenizer.addedTokens {
      guard !token.singleWord, !token.leftStrip, !token.rightStrip else {
        throw refusal(
          "the added token \(token.content.debugDescription) takes the white space around it or "
            + "stands alone (lstrip, rstrip, single_word), which a GGUF cannot say")
      }
      types[Int(token.id)] = (token.special ? TokenType.control : .userDefined).rawValue
    }
    for id in tokens.count..<vocabularySize {  // rows of the embedding that are no token
      tokens.append("[PAD\(id)]")
      types.append(TokenType.unused.rawValue)
    }
    add("tokens", .strings(tokens))
    add("token_type", .int32s(types))
  }

  /// Either spelling; checked when the tokenizer was read.
  private static func merges(_ merges: JSONValue?) -> [String] {
    (merges?.array ?? []).compactMap { merge in
      merge.string ?? merge.array.map { $0.compactMap(\.string).joined(separator: " ") }
    }.filter { !$0.hasPrefix("#version") }
  }

  private mutating func addSpecialTokens(of tokenizer: Tokenizer, _ assets: ModelAssets) {
    let configuration = assets.configuration
    func id(_ name: String, _ configured: Int?) -> Int? {
      assets.specialTokens[name].flatMap { tokenizer.id(of: $0) }.map(Int.init) ?? configured
    }
    let end = id("eos_token", configuration.eosTokenIDs.first)
    let others = assets.stopTokens.map(Int.init).filter { $0 != end }.sorted()
    let ids: [(String, Int?)] = [
      ("bos", id("bos_token", configuration.bosTokenID)), ("eos", end),
      // llama.cpp also ends a text at these.
      ("eot", others.first), ("eom", others.dropFirst().first),
      ("unknown", id("unk_token", nil)), ("padding", id("pad_token", configuration.padTokenID)),
    ]
    for (name, id) in ids {
      if let id { add(name + "_token_id", .uint32(UInt32(id))) }
    }
  }

  /// The name of the splitting that llama.cpp has compiled in.
  private func preTokenizer(_ component: JSONValue?, _ settings: JSONValue?) throws -> String {
    let steps = Self.flattened(component ?? .null)
    let types = steps.compactMap { $0["type"]?.string }
    guard let last = steps.last, last["add_prefix_space"]?.bool != true else {
      throw refusal("the pre-tokenizer puts a blank before every text, which llama.cpp does not")
    }
    let usesPattern = last["use_regex"]?.bool ?? true
    switch types {
    case ["ByteLevel"] where usesPattern: return "gpt-2"
    case ["Digits", "ByteLevel"]
    where usesPattern && steps[0]["individual_digits"]?.bool == true:
      // The same splitting; they differ in tidying blanks when text is put together.
      return settings?["clean_up_tokenization_spaces"]?.bool == false ? "smollm" : "refact"
    case ["Split", "ByteLevel"] where !usesPattern && Self.keepsMatches(steps[0]):
      let pattern = steps[0]["pattern"]?["Regex"]?.string
      if let name = pattern.flatMap({ Self.patterns[$0] }) { return name }
    default: break
    }
    throw refusal(
      "llama.cpp has no name for the pre-tokenizer \(types.joined(separator: ", ")) of "
        + "tokenizer.json")
  }

  /// Whether the pieces are the matches: these patterns leave nothing between two of them.
  private static func keepsMatches(_ split: JSONValue) -> Bool {
    switch (split["behavior"]?.string, split["invert"]?.bool) {
    case ("Isolated", false), ("Removed", true): true
    default: false
    }
  }

  private static let patterns = [3: "dbrx", 1: "qwen2"].reduce(into: [String: String]()) {
    // Granite 4: digits in threes; Qwen: one by one.
    let digits = $1.key == 3 ? #"\p{N}{1,3}"# : #"\p{N}"#
    let pattern =
      #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"# + digits
      + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    $0[pattern] = $1.value
  }

  private static func flattened(_ component: JSONValue) -> [JSONValue] {
    guard let parts = component["pretokenizers"]?.array else { return [component] }
    return parts.flatMap(flattened)
  }
}
