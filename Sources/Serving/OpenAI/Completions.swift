import Inference
import JSON
import QuarryKit
import Tokenization

/// `POST /v1/completions`: texts that go on from prompts as they are.
struct Completions {
  private let model: ServedModel
  private let sampling: SamplingFields
  private let prompts: [[TokenID]]
  private let echoes: Bool
  /// Whether there is more to do than to score the prompt.
  private let generates: Bool
  private let name: String
  private let id = Identifiers.make("cmpl-")
  private let created = Identifiers.now

  /// The fields that are read besides those of ``SamplingFields``.
  enum Field {
    static let suffix = RequestField.string("suffix")
    static let echo = RequestField.bool("echo")
    static let logprobs = RequestField.integer("logprobs", 0...20)
    /// None at all only where the prompt comes back.
    static let maxTokens = RequestField.integer("max_tokens", 0 ... .max)
    static let prompt = RequestField<JSONValue>(
      "prompt", "a string, an array of strings, of token ids or of arrays of token ids",
      ["oneOf": .array(promptForms.map { .object($0) })]
    ) { $0 }

    private static let text: JSONObject = ["type": "string"]
    private static let token: JSONObject = [
      "type": "integer", "minimum": 0, "maximum": .integer(Int(TokenID.max)),
    ]
    private static let promptForms = [
      text, list(text, ChatPrompt.limit), list(token), list(list(token), ChatPrompt.limit),
    ]

    private static func list(_ items: JSONObject, _ limit: Int? = nil) -> JSONObject {
      [
        "type": "array", "items": .object(items), "minItems": 1,
        "maxItems": limit.map { .integer($0) },
      ]
    }

    static let all: [any DescribedField] = [prompt, suffix, echo, logprobs, maxTokens]
  }

  /// - Throws: ``APIError``, `TokenizerError`.
  init(_ fields: RequestFields, model: ServedModel) throws {
    self.model = model
    name = try fields.string("model") ?? model.id
    if let suffix = try fields.read(Field.suffix), !suffix.isEmpty {
      throw APIError.unsupported("texts cannot be filled in before a suffix", "suffix")
    }
    prompts = try Self.prompts(fields, model: model)
    echoes = try fields.read(Field.echo) ?? false
    let logprobs = try fields.read(Field.logprobs)
    let maxTokens =
      try fields.read(echoes ? Field.maxTokens : .integer(Field.maxTokens.name, 1 ... .max)) ?? 16
    generates = maxTokens > 0
    let limit = model.engine.configuration.contextLength
    sampling = try SamplingFields(
      fields, model: model, maxTokens: min(max(maxTokens, 1), limit), logprobs: logprobs)
  }

  /// A text, tokens, or an array of either.
  private static func prompts(_ fields: RequestFields, model: ServedModel) throws -> [[TokenID]] {
    let (name, expected) = (Field.prompt.name, Field.prompt.expected)
    func tokens(_ value: JSONValue) throws -> [TokenID] {
      if let text = value.string {
        if !text.isEmpty { return try model.tokenizer.encode(text) }
        // Something has to be there to go on from.
        guard let start = model.engine.model.specialTokens["bos_token"] else {
          throw APIError.invalid("the prompt is empty", "prompt")
        }
        return try model.tokenizer.encode(start)
      }
      guard let ids = value.array else { throw fields.wrong(name, expected) }
      return try ids.map { id in
        guard let token = id.integer.flatMap(TokenID.init(exactly:)) else {
          throw fields.wrong(name, expected)
        }
        return token
      }
    }
    guard let prompt = try fields.read(Field.prompt) else { throw fields.wrong(name, expected) }
    guard let list = prompt.array, list.first?.integer == nil else { return [try tokens(prompt)] }
    guard (1...ChatPrompt.limit).contains(list.count) else {
      throw fields.wrong(name, expected)
    }
    return try list.map(tokens)
  }

  /// - Throws: ``APIError`` and errors that it can be made of; none once the answer is a stream.
  func respond() async throws -> APIResponse {
    try model.engine.check(choices: prompts.count * sampling.choices)
    let requests = prompts.flatMap { prompt in
      (0..<sampling.choices).map { choice in
        var options = sampling.options
        options.choice = UInt32(choice)
        return EngineRequest(
          prompt: prompt, options: options, promptLogprobs: echoes ? options.logprobs : nil,
          generates: generates)
      }
    }
    let events = ChoiceEvents(streams: try model.submit(requests))
    var choices = requests.map {
      CompletionChoice($0, tokenizer: model.tokenizer, echoes: echoes)
    }
    if sampling.streams {
      return APIResponse(body: .events { [choices] in try await stream(events, choices, $0) })
    }
    var usage = Usage()
    try await events.forEach { index, event in
      choices[index].take(event)
      add(event, of: index, to: &usage)
    }
    let objects = choices.indices.map { JSONValue.object(choices[$0].takeJSON(index: $0)) }
    return APIResponse(body: .json(envelope(objects, usage: usage.json)))
  }

  private func stream(
    _ events: ChoiceEvents, _ choices: [CompletionChoice], _ send: @Sendable (String) -> Void
  ) async throws {
    var choices = choices
    var usage = Usage()
    try await events.forEach { index, event in
      choices[index].take(event)
      add(event, of: index, to: &usage)
      if choices[index].hasNews {
        let chunk = JSONValue.object(choices[index].takeJSON(index: index))
        send(envelope([chunk], usage: sampling.includesUsage ? .null : nil).serialized())
      }
    }
    if sampling.includesUsage { send(envelope([], usage: usage.json).serialized()) }
    send("[DONE]")
  }

  private func add(_ event: EngineEvent, of choice: Int, to usage: inout Usage) {
    if case .finished(let summary) = event {
      usage.add(summary, countsPrompt: choice % sampling.choices == 0)
    }
  }

  private func envelope(_ choices: [JSONValue], usage: JSONValue?) -> JSONValue {
    .object([
      "id": .string(id), "object": "text_completion", "created": .integer(created),
      "model": .string(name), "choices": .array(choices), "usage": usage,
    ])
  }
}
