import Tokenization

/// What the processors know of a sequence: which tokens it holds.
struct TokenHistory {
  private(set) var prompt: Set<TokenID>
  /// Tokens of the completion, with how often it holds them.
  private(set) var output: [TokenID: Int] = [:]
  private(set) var outputCount = 0

  init(prompt: [TokenID]) { self.prompt = Set(prompt) }

  mutating func append(_ token: TokenID) {
    output[token, default: 0] += 1
    outputCount += 1
  }
}

/// Changes logits before a token is chosen; float32, one rounding for each operation.
protocol LogitsProcessor: Sendable {
  func process(_ logits: UnsafeMutableBufferPointer<Float>, history: TokenHistory)
}

/// Rules out every stop token until the completion is long enough.
struct MinimumLength: LogitsProcessor {
  let minTokens: Int
  let stopTokens: [TokenID]

  func process(_ logits: UnsafeMutableBufferPointer<Float>, history: TokenHistory) {
    guard history.outputCount < minTokens else { return }
    for token in stopTokens where logits.indices.contains(Int(token)) {
      logits[Int(token)] = -.infinity
    }
  }
}

struct LogitBias: LogitsProcessor {
  let bias: [TokenID: Float]

  func process(_ logits: UnsafeMutableBufferPointer<Float>, history: TokenHistory) {
    for (token, value) in bias { logits[Int(token)] += value }
  }
}

/// The penalty of Keskar et al. ("CTRL", 2019), over prompt and completion.
struct RepetitionPenalty: LogitsProcessor {
  let penalty: Float

  func process(_ logits: UnsafeMutableBufferPointer<Float>, history: TokenHistory) {
    for token in history.prompt { penalize(&logits[Int(token)]) }
    for token in history.output.keys where !history.prompt.contains(token) {
      penalize(&logits[Int(token)])
    }
  }

  private func penalize(_ logit: inout Float) {
    logit = logit > 0 ? logit / penalty : logit * penalty
  }
}

/// OpenAI's penalties, over the completion: frequency first, then presence.
struct FrequencyAndPresencePenalty: LogitsProcessor {
  let frequency: Float
  let presence: Float

  func process(_ logits: UnsafeMutableBufferPointer<Float>, history: TokenHistory) {
    for (token, count) in history.output {
      logits[Int(token)] -= frequency * Float(count)
      logits[Int(token)] -= presence
    }
  }
}

extension GenerationOptions {
  /// The processors that these options call for, in the order in which they apply.
  func makeProcessors(stopTokens: Set<TokenID>) -> [any LogitsProcessor] {
    var processors: [any LogitsProcessor] = []
    if minTokens > 0 {
      processors.append(MinimumLength(minTokens: minTokens, stopTokens: stopTokens.sorted()))
    }
    if !logitBias.isEmpty { processors.append(LogitBias(bias: logitBias)) }
    if repetitionPenalty != 1 {
      processors.append(RepetitionPenalty(penalty: Float(repetitionPenalty)))
    }
    if frequencyPenalty != 0 || presencePenalty != 0 {
      processors.append(
        FrequencyAndPresencePenalty(
          frequency: Float(frequencyPenalty), presence: Float(presencePenalty)))
    }
    return processors
  }
}
