import Inference
import JSON
import QuarryKit
import Tokenization

extension APIError {
  /// What an error of the rooms below means to whoever sent the request.
  init(_ error: any Error) {
    switch error {
    case let error as APIError: self = error
    case let error as JSONError: self = .invalid("the body is not valid JSON: \(error)".shown)
    case let error as InvalidOption:
      self = .invalid("\(error.name) must be \(error.expected)", error.name)
    case EngineError.queueFull: self = .queueFull("\(error)")
    case EngineError.stopped: self = .unavailable("\(error)", retryAfter: 10)
    case InferenceError.contextExceeded(let needed, let limit):
      // In words that LangChain and LiteLLM know such a prompt by.
      self = .invalid(
        "the prompt is too long: \(needed - 1) tokens leave no room for an answer in the context of "
          + "\(limit)", code: "context_length_exceeded")
    case InferenceError.emptyPrompt: self = .invalid("the prompt is empty", "prompt")
    case InferenceError.tokenOutOfRange: self = .invalid("\(error)", "prompt")
    case InferenceError.noCandidates: self = .invalid("\(error)", "logit_bias")
    case let error as InferenceError: self = .server("\(error)")
    case let error as TokenizerError: self = .invalid("\(error)")
    case let error as TemplateError: self = .invalid("\(error)", "messages")
    default: self = .server("the request failed")
    }
  }
}
