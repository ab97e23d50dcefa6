import Inference
import JSON
import QuarryKit
import Tokenization

/// What the engine does for a prediction.
struct PredictionWork: Sendable {
  /// Reads the engine's events to their end: calls `observe` with each and `send` with every piece of
  /// the output.
  let run:
    @Sendable (
      _ observe: @escaping @Sendable (EngineEvent) -> Void,
      _ send: @escaping @Sendable (String) -> Void
    ) async throws -> Void
}

/// Runs inputs as the published model does: messages are a chat completion, whose JSON is the output;
/// a prompt is a conversation of its own, whose answer is the output as it is; and a prompt that begins
/// as the chat template does is a prompt already.
struct Predictor {
  let model: ServedModel
  /// As the request has it.
  let name: String

  /// Queues the inputs.
  ///
  /// - Throws: ``EngineError`` where there is no room; otherwise why they cannot be run.
  func submit(_ input: PredictionInput) throws -> PredictionWork {
    if let messages = input.messages { return try chat(input, messages) }
    guard input.prompt != nil || input.systemPrompt != nil else { throw NoPrompt() }
    if let prompt = input.prompt, input.systemPrompt == nil, isRaw(prompt) {
      return try text(prompt, input)
    }
    func message(_ role: JSONValue, _ content: String?) -> JSONValue? {
      content.map { .object(["role": role, "content": .string($0)]) }
    }
    let messages = [message("system", input.systemPrompt), message("user", input.prompt)]
    let conversation = input.conversation(messages.compactMap { $0 })
    return try text(try ChatPrompt(conversation, model: model).render(model), input)
  }

  /// Whether a prompt begins with the special token that the template begins with.
  private func isRaw(_ prompt: String) -> Bool {
    guard let token = model.firstTemplateToken else { return false }
    return prompt.drop { $0.isWhitespace }.utf8.starts(with: token.utf8)
  }

  private func text(_ prompt: String, _ input: PredictionInput) throws -> PredictionWork {
    let request = EngineRequest(
      prompt: try model.tokenizer.encode(prompt), options: input.options)
    let events = try model.submit([request])[0]
    return PredictionWork { observe, send in
      for try await event in events {
        observe(event)
        if case .chosen(let choice) = event, !choice.text.isEmpty { send(choice.text) }
      }
      try Task.checkCancellation()
    }
  }

  private func chat(_ input: PredictionInput, _ messages: [JSONValue]) throws -> PredictionWork {
    let completion = ChatCompletions(
      try ChatPrompt(input.conversation(messages), model: model),
      sampling: SamplingFields(input.options, streams: input.streams), name: name, model: model)
    let submitted = try completion.submit()
    return PredictionWork { observe, send in
      var events = submitted
      events.observe = observe
      switch try await completion.respond(with: events).body {
      case .json(let value): send(value.serialized())
      case .events(let run): try await run { if $0 != "[DONE]" { send($0) } }
      case .text, .frames: break
      }
    }
  }
}

/// There is nothing to answer.
struct NoPrompt: Error, CustomStringConvertible {
  let description = "No messages or prompt inputs specified"
}

extension Predictor {
  /// The error of a prediction that failed: the model's errors are JSON, as vLLM has them.
  static func describe(_ error: any Error) -> String {
    if error is NoPrompt || error is EngineError { return "\(error)" }
    let error = APIError(error)
    return JSONValue.object([
      "error": .object([
        "message": .string(error.message),
        "type": error.status < 500 ? "BadRequestError" : "InternalServerError",
        "param": error.parameter.map { .string($0) } ?? .null, "code": .integer(error.status),
      ])
    ]).serialized()
  }
}
