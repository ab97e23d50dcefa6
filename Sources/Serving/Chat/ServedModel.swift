import Inference
public import JSON
import ModelFiles
public import QuarryKit
import Tokenization

/// A model as the APIs see it: its names, and what its prompts and answers look like.
public struct ServedModel: Sendable {
  /// `owner/name`, as the list of models has it.
  public let id: String
  let created: Int
  public let engine: Engine
  let tokenizer: Tokenizer
  let template: ChatTemplate?
  /// Whether the template shows the descriptions of tools, and earlier calls of them.
  let showsTools: Bool
  let showsToolCalls: Bool
  /// What tells this model's weights from others: the root digest of its slab.
  public let version: String
  /// What `GET /inspect` tells of it.
  let listing: JSONObject
  /// Whether requests may bring templates of their own.
  let allowsRequestTemplates: Bool
  /// The special token that every prompt of the template begins with, if it does with one.
  let firstTemplateToken: String?
  /// Special tokens that begin a tool call.
  let toolCallTokens: Set<TokenID>

  /// - Parameters:
  ///   - id: `owner/name`.
  ///   - version: the root digest of its slab.
  ///   - listing: what is told of its weights; see ``ModelView``.
  ///   - allowsRequestTemplates: whether requests may bring templates of their own.
  /// - Throws: `TokenizerError`, `TemplateError` for those that cannot be executed;
  ///   ``ServingError/noTokenizer``.
  public init(
    engine: Engine, id: String, version: String,
    listing: JSONObject = [:], allowsRequestTemplates: Bool = false
  ) throws {
    guard let tokenizer = try engine.model.tokenizer else { throw ServingError.noTokenizer }
    self.version = version
    self.listing = listing
    self.allowsRequestTemplates = allowsRequestTemplates
    self.engine = engine
    self.tokenizer = tokenizer
    self.id = id
    created = Identifiers.now
    template = try engine.model.chatTemplate
    let marker = "quarry-probe"
    let specialTokens = engine.model.specialTokens
    let probe = { [template] (messages: JSONValue, tools: JSONValue?) in
      let input = ChatInput(messages: messages, tools: tools, specialTokens: specialTokens)
      let date = TemplateDate(year: 2000, month: 1, day: 1)
      let text = template.flatMap { try? $0.render(input, date: date) }
      return text?.contains(marker) ?? false
    }
    let user = JSONValue.object(["role": "user", "content": "a"])
    let function = JSONValue.object([
      "name": .string(marker), "description": "", "arguments": .object([:]),
      "parameters": .object(["type": "object", "properties": .object([:])]),
    ])
    let call = JSONValue.object(["id": "1", "type": "function", "function": function])
    showsTools = probe(.array([user]), .array([call]))
    showsToolCalls = probe(
      .array([
        user,
        .object(["role": "assistant", "content": "", "tool_calls": .array([call])]), user,
      ]), nil)
    let hello = ChatInput(messages: .array([user]), specialTokens: specialTokens)
    let prompt = template.flatMap { try? $0.render(hello, date: .today()) }
    let first = try prompt.flatMap { try tokenizer.encode($0).first }
    firstTemplateToken = tokenizer.addedTokens.first { $0.special && $0.id == first }?.content
    toolCallTokens = Set([tokenizer.id(of: "<|tool_call|>")].compactMap { $0 })
  }

  var owner: String { String(id.prefix { $0 != "/" }) }
  var name: String { String(id.drop { $0 != "/" }.dropFirst()) }

  /// Queues requests as the engine does. A log that tells everything tells their prompts.
  func submit(_ requests: [EngineRequest]) throws -> [EngineEvents] {
    if let entry = LogEntry.current, entry.tellsPrompts {
      for request in requests where request.options.choice == 0 {
        entry.tell(prompt: (try? tokenizer.decode(request.prompt)) ?? "\(request.prompt)")
      }
    }
    return try engine.submit(requests)
  }

  /// Bytes that the KV cache may take.
  public var cacheByteCount: Int {
    engine.cacheTiles
      * CacheBudget.tileByteCount(engine.model, engine.configuration.cacheType)
  }

  /// The object of the list of models.
  var json: JSONObject {
    let configuration = engine.model.configuration
    return [
      "id": .string(id), "object": "model", "created": .integer(created),
      "owned_by": .string(owner),
      "max_model_len": .integer(engine.configuration.contextLength),
      "meta": .object([
        "n_ctx_train": .integer(configuration.contextLength),
        "n_vocab": .integer(configuration.vocabularySize),
        "n_embd": .integer(configuration.hiddenSize),
      ]),
    ]
  }
}

/// Why a model cannot be served.
public enum ServingError: Error, CustomStringConvertible {
  case noTokenizer
  /// An address that cannot be had, and the system's reason.
  case cannotListen(host: String, port: Int, reason: String)

  public var description: String {
    switch self {
    case .noTokenizer:
      "the model has no tokenizer; put tokenizer.json beside config.json and convert it again"
    case .cannotListen(let host, let port, let reason):
      "cannot listen on port \(port) of \(host): \(reason)"
    }
  }
}
