public import Tokenization

/// How a completion is generated. The defaults are those of the published service; names, semantics
/// and order of application are vLLM's.
public struct GenerationOptions: Sendable, Equatable {
  /// Divides the logits; 0 always takes the best one (of equals the lowest id).
  public var temperature: Double = 0.6
  /// Tokens to choose from, the likeliest ones; 0 or −1 for all.
  public var topK = 50
  /// Share of the probability to choose from: the fewest of the likeliest tokens that reach it.
  public var topP: Double = 0.9
  /// Least probability of a token, as a share of the likeliest one's.
  public var minP: Double = 0
  /// Subtracted from the logit of every token that the completion holds.
  public var presencePenalty: Double = 0
  /// Subtracted from a token's logit for every time that the completion holds it.
  public var frequencyPenalty: Double = 0
  /// Divides positive logits of tokens that prompt or completion hold, and multiplies others.
  public var repetitionPenalty: Double = 1
  /// Added to the logits of tokens.
  public var logitBias: [TokenID: Float] = [:]
  /// Tokens to generate at most, a stop token included.
  public var maxTokens = 512
  /// Tokens before which no stop token and no stop string ends the completion.
  public var minTokens = 0
  /// Texts that end the completion, which then ends before them.
  public var stop: [String] = []
  /// Of the random numbers; the same seed and options give the same text on every machine.
  public var seed: UInt64 = 0
  /// Special tokens that are part of the text nevertheless, such as the one that begins a tool call.
  public var visibleTokens: Set<TokenID> = []
  /// With each token, its log-probability and those of as many of the likeliest tokens; nil for none.
  public var logprobs: Int?
  /// Which of several completions of one prompt this is; each draws its own random numbers.
  public var choice: UInt32 = 0

  /// The defaults.
  public init() {}

  /// Checks every field, for a model with `vocabularySize` tokens.
  ///
  /// - Throws: ``InvalidOption``.
  public func validate(vocabularySize: Int) throws(InvalidOption) {
    try check("temperature", temperature, "at least 0", temperature >= 0)
    try check("top_k", topK, "-1, 0 or more", topK >= -1)
    try check("top_p", topP, "above 0 and at most 1", topP > 0 && topP <= 1)
    try check("min_p", minP, "from 0 to 1", (0...1).contains(minP))
    try check("presence_penalty", presencePenalty, "from -2 to 2", abs(presencePenalty) <= 2)
    try check("frequency_penalty", frequencyPenalty, "from -2 to 2", abs(frequencyPenalty) <= 2)
    try check(
      "repetition_penalty", repetitionPenalty, "from 0.01 to 100",
      (0.01...100).contains(repetitionPenalty))
    try check("max_tokens", maxTokens, "at least 1", maxTokens >= 1)
    try check(
      "min_tokens", minTokens, "from 0 to max_tokens (\(maxTokens))",
      (0...max(0, maxTokens)).contains(minTokens))
    for (token, bias) in logitBias.sorted(by: { $0.key < $1.key }) {
      try check(
        "logit_bias", token, "about tokens below \(vocabularySize)",
        (0..<vocabularySize).contains(Int(token)))
      try check("logit_bias", bias, "from -100 to 100", abs(bias) <= 100)
    }
    if let logprobs { try check("logprobs", logprobs, "at least 0", logprobs >= 0) }
    try check("stop", "\"\"", "texts that are not empty", !stop.contains(""))
  }

  private func check<Value>(
    _ name: String, _ value: Value, _ expected: String, _ holds: Bool
  ) throws(InvalidOption) {
    // Comparisons with NaN are false; infinities pass them.
    let finite = (value as? Double)?.isFinite ?? true
    if !holds || !finite {
      throw InvalidOption(name: name, value: "\(value)", expected: expected)
    }
  }
}

/// An option of ``GenerationOptions`` outside of its range.
public struct InvalidOption: Error, Equatable, Sendable, CustomStringConvertible {
  /// As clients spell it, `top_p`.
  public let name: String
  /// What was given.
  public let value: String
  /// What would be accepted, as the end of "it must be …".
  public let expected: String

  public var description: String { "\(name) is \(value); it must be \(expected)" }
}
