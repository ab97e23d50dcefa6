import Inference
import JSON
import QuarryKit
import Tokenization

/// One choice of a completion on its way: the text and the log-probabilities that nobody has been told
/// yet.
struct CompletionChoice {
  private let tokenizer: Tokenizer
  private let wantsLogprobs: Bool
  private var text = ""
  private var finishReason: String?
  /// Entries of the four arrays of `logprobs`.
  private var tokens: [JSONValue] = []
  private var logprobs: [JSONValue] = []
  private var top: [JSONValue] = []
  private var offsets: [JSONValue] = []
  /// Characters of all tokens so far.
  private var offset = 0
  private var decoder: StreamDecoder

  /// - Parameter echoes: whether the text begins with the prompt.
  init(_ request: EngineRequest, tokenizer: Tokenizer, echoes: Bool) {
    self.tokenizer = tokenizer
    wantsLogprobs = request.options.logprobs != nil
    decoder = StreamDecoder(tokenizer, skipSpecialTokens: false)
    guard echoes else { return }
    // Ids beyond the vocabulary of the tokenizer, which the model may have, add nothing.
    var shown = StreamDecoder(tokenizer, skipSpecialTokens: false)
    text = request.prompt.reduce(into: "") { $0 += shown.push($1) } + shown.finish()
    if wantsLogprobs { add(request.prompt[0], nil, []) }
  }

  mutating func take(_ event: EngineEvent) {
    switch event {
    case .reading: break
    case .prompt(let values): for value in values { add(value) }
    case .chosen(let choice):
      text += choice.text
      if let values = choice.logprobs, !choice.isStopToken { add(values) }
    case .finished(let summary): finishReason = summary.finishReason.rawValue
    }
  }

  /// Whether a chunk of a stream is due.
  var hasNews: Bool { !text.isEmpty || finishReason != nil }

  /// What has come since the last call of this.
  mutating func takeJSON(index: Int) -> JSONObject {
    defer { (text, tokens, logprobs, top, offsets) = ("", [], [], [], []) }
    return [
      "index": .integer(index), "text": .string(text),
      "logprobs": wantsLogprobs
        ? .object([
          "tokens": .array(tokens), "token_logprobs": .array(logprobs),
          "top_logprobs": .array(top), "text_offset": .array(offsets),
        ]) : .null,
      "finish_reason": finishReason.map { .string($0) } ?? .null,
    ]
  }

  private mutating func add(_ values: TokenLogprobs) {
    add(values.token, values.logprob, values.top.map { ($0.token, $0.logprob) })
  }

  /// - Parameter logprob: nil for the first token, which follows nothing.
  private mutating func add(
    _ token: TokenID, _ logprob: Double?, _ alternatives: [(TokenID, Double)]
  ) {
    tokens.append(.string(name(of: token)))
    offsets.append(.integer(offset))
    offset += decoder.push(token).unicodeScalars.count
    logprobs.append(logprob.map { .double($0) } ?? .null)
    guard let logprob else { return top.append(.null) }
    var object: JSONObject = [name(of: token): .double(logprob)]
    for (token, logprob) in alternatives { object[name(of: token)] = .double(logprob) }
    top.append(.object(object))
  }

  /// The text of a token; its bytes where they are no text, for names have to differ.
  private func name(of token: TokenID) -> String {
    let bytes = tokenizer.bytes(of: token) ?? []
    if let text = String(validating: bytes, as: UTF8.self) { return text }
    return bytes.reduce("bytes:") { $0 + "\\x" + ($1 < 16 ? "0" : "") + String($1, radix: 16) }
  }
}
