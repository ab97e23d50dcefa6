import Inference
import JSON
import QuarryKit
import Tokenization

/// `POST /v1/chat/completions`.
struct ChatCompletions {
  private let model: ServedModel
  private let sampling: SamplingFields
  private let prompt: ChatPrompt
  private let name: String
  private let id = Identifiers.make("chatcmpl-")
  private let created = Identifiers.now

  /// The fields that are read besides those of ``ChatPrompt`` and ``SamplingFields``.
  enum Field {
    static let maxCompletionTokens = RequestField.integer("max_completion_tokens", 1 ... .max)
    static let maxTokens = RequestField.integer("max_tokens", 1 ... .max)
    static let logprobs = RequestField.bool("logprobs")
    static let topLogprobs = RequestField.integer("top_logprobs", 0...20)

    static let all: [any DescribedField] = [maxCompletionTokens, maxTokens, logprobs, topLogprobs]
  }

  /// - Throws: ``APIError``.
  init(_ fields: RequestFields, model: ServedModel) throws(APIError) {
    self.model = model
    name = try fields.string("model") ?? model.id
    prompt = try ChatPrompt(fields, model: model)
    try fields.refuse(["prediction"])
    if let modalities = fields["modalities"], modalities != .array(["text"]) {
      throw .unsupported("modalities may be [\"text\"]", "modalities")
    }
    let top = try fields.read(Field.topLogprobs)
    let wantsLogprobs = try fields.read(Field.logprobs) ?? false
    if top != nil, !wantsLogprobs {
      throw .invalid("top_logprobs needs logprobs: true", "top_logprobs")
    }
    let limit = model.engine.configuration.contextLength
    var maxTokens = try fields.read(Field.maxCompletionTokens)
    if maxTokens == nil { maxTokens = try fields.read(Field.maxTokens) }
    sampling = try SamplingFields(
      fields, model: model, maxTokens: min(maxTokens ?? limit, limit),
      logprobs: wantsLogprobs ? top ?? 0 : nil)
  }

  /// A conversation of which everything is known.
  init(_ prompt: ChatPrompt, sampling: SamplingFields, name: String, model: ServedModel) {
    self.prompt = prompt
    self.sampling = sampling
    self.name = name
    self.model = model
  }

  /// - Throws: ``APIError`` and errors that it can be made of; none once the answer is a stream.
  func respond() async throws -> APIResponse { try await respond(with: try submit()) }

  /// Queues the choices.
  ///
  /// - Throws: ``APIError`` and errors that it can be made of.
  func submit() throws -> ChoiceEvents {
    try model.engine.check(choices: sampling.choices)
    let tokens = try model.tokenizer.encode(try prompt.render(model))
    let requests = (0..<sampling.choices).map { choice in
      var options = sampling.options
      options.choice = UInt32(choice)
      if prompt.tools != nil { options.visibleTokens = model.toolCallTokens }
      return EngineRequest(prompt: tokens, options: options)
    }
    return ChoiceEvents(streams: try model.submit(requests))
  }

  /// Answers with what has been queued; throws as ``respond()``.
  func respond(with events: ChoiceEvents) async throws -> APIResponse {
    if sampling.streams { return APIResponse(body: .events { try await stream(events, $0) }) }
    return try await collect(events)
  }

  private func makeChoices() -> [ChatChoice] {
    (0..<sampling.choices).map { _ in
      ChatChoice(
        tokenizer: model.tokenizer, expectsCalls: prompt.tools != nil,
        wantsLogprobs: sampling.options.logprobs != nil)
    }
  }

  // MARK: - At once

  private func collect(_ events: ChoiceEvents) async throws -> APIResponse {
    var choices = makeChoices()
    var parts = choices.map { _ in [AnswerPart]() }
    var usage = Usage()
    try await events.forEach { index, event in
      parts[index] += choices[index].take(event)
      if case .finished(let summary) = event { usage.add(summary, countsPrompt: index == 0) }
    }
    let objects = choices.indices.map { index in
      JSONValue.object([
        "index": .integer(index), "message": .object(Self.message(parts[index])),
        "logprobs": choices[index].takeLogprobs(),
        "finish_reason": choices[index].finishReason.map { .string($0) } ?? .null,
      ])
    }
    return .json([
      "id": .string(id), "object": "chat.completion", "created": .integer(created),
      "model": .string(name), "choices": .array(objects), "usage": usage.json,
    ])
  }

  private static func message(_ parts: [AnswerPart]) -> JSONObject {
    var (content, reasoning, calls) = ("", "", [JSONValue]())
    for part in parts {
      switch part {
      case .content(let text): content += text
      case .reasoning(let text): reasoning += text
      case .toolCall(let call): calls.append(.object(call.json()))
      }
    }
    return [
      "role": "assistant",
      "content": content.isEmpty && !calls.isEmpty ? .null : .string(content),
      "refusal": .null,
      "reasoning_content": reasoning.isEmpty ? nil : .string(reasoning),
      "tool_calls": calls.isEmpty ? nil : .array(calls),
    ]
  }

  // MARK: - As a stream

  private func stream(
    _ events: ChoiceEvents, _ send: @Sendable (String) -> Void
  ) async throws {
    var choices = makeChoices()
    var usage = Usage()
    for index in choices.indices {
      send(chunk(index, ["role": "assistant", "content": ""]))
    }
    try await events.forEach { index, event in
      var call = choices[index].calls
      for part in choices[index].take(event) {
        send(chunk(index, part.delta(call: call), choices[index].takeLogprobs()))
        if case .toolCall = part { call += 1 }
      }
      if case .finished(let summary) = event {
        usage.add(summary, countsPrompt: index == 0)
        send(chunk(index, [:], choices[index].takeLogprobs(), choices[index].finishReason))
      }
    }
    if sampling.includesUsage { send(envelope([], usage: usage.json)) }
    send("[DONE]")
  }

  private func chunk(
    _ index: Int, _ delta: JSONObject, _ logprobs: JSONValue = .null, _ reason: String? = nil
  ) -> String {
    envelope([
      .object([
        "index": .integer(index), "delta": .object(delta), "logprobs": logprobs,
        "finish_reason": reason.map { .string($0) } ?? .null,
      ])
    ])
  }

  private func envelope(_ choices: [JSONValue], usage: JSONValue = .null) -> String {
    JSONValue.object([
      "id": .string(id), "object": "chat.completion.chunk", "created": .integer(created),
      "model": .string(name), "choices": .array(choices),
      "usage": sampling.includesUsage ? usage : nil,
    ]).serialized()
  }
}

extension Engine {
  /// Refuses a request with more choices than could ever be taken.
  func check(choices: Int) throws(APIError) {
    let limit = configuration.slots + configuration.maxQueue
    if choices > limit {
      throw .invalid("a request may have \(limit) choices here, not \(choices)", "n")
    }
  }
}
