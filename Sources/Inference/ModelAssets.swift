import JSON
public import ModelFiles
public import Tokenization

/// What a model is besides its weights: the files of the checkpoint that a slab carries.
public struct ModelAssets: Sendable {
  public var configuration: ModelConfiguration
  /// Nil without a tokenizer.json; a failure where there is one that cannot be executed, which does
  /// not keep the model from running on token ids.
  public var tokenizer: Result<Tokenizer, any Error>?
  /// Nil where there is none; a failure where there is one that cannot be executed.
  public var chatTemplate: Result<ChatTemplate, any Error>?
  /// The text of ``chatTemplate``, as it came.
  public private(set) var chatTemplateSource: String?
  /// The texts of `bos_token`, `eos_token` and so on, as templates name them.
  public var specialTokens: [String: String]
  /// Ids that end a completion: those of config.json and of generation_config.json.
  public var stopTokens: Set<TokenID>

  /// A model that takes and gives token ids only.
  public init(configuration: ModelConfiguration) {
    self.configuration = configuration
    specialTokens = [:]
    stopTokens = Set(configuration.eosTokenIDs.map { TokenID($0) })
  }

  /// - Parameters:
  ///   - path: what to call the model in errors.
  ///   - asset: the bytes of a file of the checkpoint; nil where there is none. Only config.json is
  ///     required.
  /// - Throws: ``InferenceError/missingAsset(name:model:)``,
  ///   ``InferenceError/invalidAsset(name:model:reason:)``.
  public init(path: String, asset: (_ name: String) -> [UInt8]?) throws {
    self.init(configuration: try Self.configuration(path: path, asset: asset))
    tokenizer = asset("tokenizer.json").map { json in Result { try Tokenizer(json: json) } }
    func document(_ name: String) throws -> JSONValue? {
      try asset(name).map { bytes in
        try Self.parsing(name, of: path) { try JSONValue(parsing: bytes) }
      }
    }
    let tokenizerConfiguration = try document("tokenizer_config.json")
    let templates = tokenizerConfiguration?["chat_template"]
    chatTemplateSource =
      asset("chat_template.jinja").map { String(decoding: $0, as: UTF8.self) }
      ?? templates?.string ?? Self.defaultTemplate(templates)
    chatTemplate = chatTemplateSource.map { source in Result { try ChatTemplate(source) } }
    specialTokens = Self.specialTokens(
      try document("special_tokens_map.json"), tokenizerConfiguration)
    if let json = asset("generation_config.json") {
      let generation = try Self.parsing("generation_config.json", of: path) {
        try GenerationConfiguration(json: json, vocabularySize: configuration.vocabularySize)
      }
      stopTokens.formUnion(generation.eosTokenIDs.map { TokenID($0) })
    }
  }

  /// See ``init(path:asset:)``.
  public init(slab: Slab) throws {
    try self.init(path: slab.path, asset: slab.asset(named:))
  }

  static func configuration(
    path: String, asset: (_ name: String) -> [UInt8]?
  ) throws -> ModelConfiguration {
    guard let json = asset("config.json") else {
      throw InferenceError.missingAsset(name: "config.json", model: path)
    }
    return try parsing("config.json", of: path) { try ModelConfiguration(json: json) }
  }

  /// Names the file in errors of its parser.
  private static func parsing<Document>(
    _ name: String, of path: String, _ parse: () throws -> Document
  ) throws(InferenceError) -> Document {
    do {
      return try parse()
    } catch {
      throw .invalidAsset(name: name, model: path, reason: "\(error)".shown)
    }
  }

  /// Older files name their templates: a list of (name, template).
  private static func defaultTemplate(_ templates: JSONValue?) -> String? {
    templates?.array?.first { $0["name"]?.string == "default" }?["template"]?.string
  }

  /// `bos_token`, `eos_token` and so on, each a text or an added token's description; what
  /// tokenizer_config.json says goes first.
  private static func specialTokens(
    _ map: JSONValue?, _ tokenizerConfiguration: JSONValue?
  ) -> [String: String] {
    var tokens: [String: String] = [:]
    for source in [map, tokenizerConfiguration] {
      for (name, value) in source?.object?.members ?? [] where name.hasSuffix("_token") {
        if let text = value.string ?? value["content"]?.string { tokens[name] = text }
      }
    }
    return tokens
  }
}
