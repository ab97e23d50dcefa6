import Inference
import JSON
import QuarryKit
import Tokenization

/// One choice of a chat completion on its way: what its events have come to.
struct ChatChoice {
  private let tokenizer: Tokenizer
  private let wantsLogprobs: Bool
  private var parser: AnswerParser
  private var callCount = 0
  private(set) var finishReason: String?
  /// Of tokens that no chunk has carried yet.
  private var logprobs: [JSONValue] = []

  init(tokenizer: Tokenizer, expectsCalls: Bool, wantsLogprobs: Bool) {
    self.tokenizer = tokenizer
    self.wantsLogprobs = wantsLogprobs
    parser = AnswerParser(expectsCalls: expectsCalls)
  }

  /// Takes an event; returns the parts of the answer that it completes.
  mutating func take(_ event: EngineEvent) -> [AnswerPart] {
    var parts: [AnswerPart] = []
    switch event {
    case .reading, .prompt: break
    case .chosen(let choice):
      if let values = choice.logprobs, !choice.isStopToken {
        logprobs.append(TokenLogprobs.json(values, tokenizer))
      }
      parts = parser.append(choice.text)
    case .finished(let summary):
      parts = parser.finish()
      callCount += Self.calls(parts)
      finishReason =
        summary.finishReason == .length ? "length" : callCount > 0 ? "tool_calls" : "stop"
      return parts
    }
    callCount += Self.calls(parts)
    return parts
  }

  /// Calls so far.
  var calls: Int { callCount }

  private static func calls(_ parts: [AnswerPart]) -> Int {
    parts.count { if case .toolCall = $0 { true } else { false } }
  }

  /// The log-probabilities of the tokens since the last call of this; null unless they are wanted.
  mutating func takeLogprobs() -> JSONValue {
    defer { logprobs = [] }
    return wantsLogprobs ? .object(["content": .array(logprobs), "refusal": .null]) : .null
  }
}

extension AnswerPart {
  /// What a chunk of a stream says of this part; `call` is the index of a tool call.
  func delta(call: Int) -> JSONObject {
    switch self {
    case .content(let text): ["content": .string(text)]
    case .reasoning(let text): ["reasoning_content": .string(text)]
    case .toolCall(let toolCall):
      ["tool_calls": .array([.object(toolCall.json(index: call))])]
    }
  }
}

extension ToolCall {
  /// - Parameter index: given in chunks only.
  func json(index: Int? = nil) -> JSONObject {
    [
      "index": index.map { .integer($0) }, "id": .string(Identifiers.make("call_")),
      "type": "function",
      "function": .object(["name": .string(name), "arguments": .string(arguments)]),
    ]
  }
}

extension TokenLogprobs {
  /// As chat completions have it.
  static func json(_ values: TokenLogprobs, _ tokenizer: Tokenizer) -> JSONValue {
    var object = json(values.token, values.logprob, tokenizer)
    object["top_logprobs"] = .array(
      values.top.map { .object(json($0.token, $0.logprob, tokenizer)) })
    return .object(object)
  }

  private static func json(
    _ token: TokenID, _ logprob: Double, _ tokenizer: Tokenizer
  ) -> JSONObject {
    let bytes = tokenizer.bytes(of: token) ?? []
    return [
      "token": .string(String(decoding: bytes, as: UTF8.self)), "logprob": .double(logprob),
      "bytes": .array(bytes.map { .integer(Int($0)) }),
    ]
  }
}
