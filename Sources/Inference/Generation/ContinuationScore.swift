public import Tokenization

/// How likely a model finds a continuation of a prompt, word for word.
public struct ContinuationScore: Sendable, Equatable {
  /// At least one token.
  public let tokens: [TokenID]
  /// Natural logarithm of the probability of all of them, each after those before it.
  public let logprob: Double
}

extension Session {
  /// Appends a prompt, and scores continuations of it, which leave no trace.
  ///
  /// - Parameters:
  ///   - continuations: each of at least one token.
  ///   - prompt: at least one token.
  /// - Throws: ``InferenceError``, `CancellationError`.
  public func scores(
    of continuations: [[TokenID]], after prompt: [TokenID]
  ) throws -> [ContinuationScore] {
    if prompt.isEmpty { throw InferenceError.emptyPrompt }
    for continuation in continuations {
      precondition(!continuation.isEmpty)
      try check(prompt + continuation)
    }
    var logprobs: [Double] = []
    try append(prompt, logits: .last) { _, logits in
      logprobs = continuations.map { TokenLogprobs($0[0], top: 0, logits: logits).logprob }
    }
    for (index, continuation) in continuations.enumerated() where continuation.count > 1 {
      try Session(sharing: self, upTo: position).append(continuation.dropLast(), logits: .all) {
        logprobs[index] +=
          TokenLogprobs(continuation[$0 + 1], top: 0, logits: $1).logprob
      }
    }
    return zip(continuations, logprobs).map { ContinuationScore(tokens: $0, logprob: $1) }
  }
}
