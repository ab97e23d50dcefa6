public import Tokenization

/// A completion in the making: it takes the logits that follow its tokens and chooses the next token.
/// Who computes the logits, alone (``Generator``) or with those of other sequences (``Batch``), makes
/// no difference to it.
public struct Completion {
  /// The tokens of the prompt and those chosen.
  public private(set) var tokens: [TokenID]
  /// Set with the last token.
  public private(set) var finishReason: FinishReason?
  private let promptCount: Int
  private let options: GenerationOptions
  private let contextLength: Int
  private let stopTokens: Set<TokenID>
  private let processors: [any LogitsProcessor]
  private let sampler: Sampler
  private var history: TokenHistory
  /// Nil for a model without a tokenizer: there are only tokens then.
  private var decoder: StreamDecoder?
  private var stopStrings: StopStrings
  /// Texts of special tokens that are shown.
  private let visible: [TokenID: String]

  /// What came of one set of logits.
  public struct Choice: Sendable, Equatable {
    /// The last may be a stop token, which is no part of the text.
    public let token: TokenID
    /// The text that is complete with it: whole characters, never a part of a stop string.
    public let text: String
    /// Whether the token ended the completion by itself.
    public let isStopToken: Bool
    /// As ``GenerationOptions/logprobs`` asks.
    public let logprobs: TokenLogprobs?
  }

  /// - Parameters:
  ///   - prompt: at least one token, fewer than the context holds.
  ///   - contextLength: tokens that prompt and completion may have together.
  ///   - stopTokens: ids that end the completion; by default the model's.
  /// - Throws: ``InvalidOption``; ``InferenceError/emptyPrompt``,
  ///   ``InferenceError/contextExceeded(needed:limit:)``,
  ///   ``InferenceError/tokenOutOfRange(token:index:vocabularySize:)``.
  public init(
    model: Model, prompt: [TokenID], options: GenerationOptions, contextLength: Int,
    stopTokens: Set<TokenID>? = nil
  ) throws {
    let vocabularySize = model.shape.vocabularySize
    try options.validate(vocabularySize: vocabularySize)
    if prompt.isEmpty { throw InferenceError.emptyPrompt }
    if prompt.count >= contextLength {
      throw InferenceError.contextExceeded(needed: prompt.count + 1, limit: contextLength)
    }
    for (index, token) in prompt.enumerated() where !(0..<vocabularySize).contains(Int(token)) {
      throw InferenceError.tokenOutOfRange(
        token: Int(token), index: index, vocabularySize: vocabularySize)
    }
    let tokenizer = try model.tokenizer
    if tokenizer == nil, let stop = options.stop.first {
      throw InvalidOption(
        name: "stop", value: stop, expected: "left out: the model has no tokenizer, so no text")
    }
    tokens = prompt
    promptCount = prompt.count
    self.options = options
    self.contextLength = contextLength
    self.stopTokens = stopTokens ?? model.stopTokens
    processors = options.makeProcessors(stopTokens: self.stopTokens)
    sampler = Sampler(options)
    history = TokenHistory(prompt: prompt)
    decoder = tokenizer.map { StreamDecoder($0, skipSpecialTokens: true) }
    stopStrings = StopStrings(options.stop)
    visible = Dictionary(
      uniqueKeysWithValues: (tokenizer?.addedTokens ?? []).lazy
        .filter { $0.special && options.visibleTokens.contains($0.id) }.map { ($0.id, $0.content) })
  }

  /// The tokens of the prompt.
  public var prompt: ArraySlice<TokenID> { tokens[..<promptCount] }

  /// Tokens chosen, a stop token included.
  public var outputCount: Int { tokens.count - promptCount }

  /// How many of the first tokens need not be computed by whoever has seen `seen`: those that are the
  /// same, but for the last, whose logits are wanted.
  public func reusableTokens(_ seen: [TokenID]) -> Int {
    min(zip(seen, tokens).prefix { $0 == $1 }.count, tokens.count - 1)
  }

  /// Chooses the next token from the logits that follow ``tokens``.
  ///
  /// - Throws: ``InferenceError/noCandidates``.
  /// - Precondition: the completion has not finished.
  public mutating func choose(
    from logits: UnsafeBufferPointer<Float>
  ) throws(InferenceError) -> Choice {
    precondition(finishReason == nil)
    let token = try sample(logits)
    tokens.append(token)
    history.append(token)
    // Minimum length masks stop tokens, so one that is chosen ends the completion.
    let isStopToken = stopTokens.contains(token)
    return Choice(
      token: token, text: isStopToken ? finish(.stop) : text(of: token), isStopToken: isStopToken,
      logprobs: options.logprobs.map { TokenLogprobs(token, top: $0, logits: logits) })
  }

  /// A token drawn from what the processors make of the logits.
  private func sample(
    _ logits: UnsafeBufferPointer<Float>
  ) throws(InferenceError) -> TokenID {
    func draw() -> Double {
      Philox.draw(seed: options.seed, choice: options.choice, position: UInt64(tokens.count))
    }
    if processors.isEmpty { return try sampler.sample(logits, draw: draw()) }
    var processed = Array(logits)
    return try processed.withUnsafeMutableBufferPointer { logits throws(InferenceError) in
      for processor in processors { processor.process(logits, history: history) }
      return try sampler.sample(UnsafeBufferPointer(logits), draw: draw())
    }
  }

  /// Ends the completion; returns the text that was held back.
  public mutating func cancel() -> String { finish(.cancelled) }

  private mutating func text(of token: TokenID) -> String {
    var text = ""
    if decoder != nil {
      let mayStop = outputCount > options.minTokens
      let shown = visible[token].map { decoder!.finish() + $0 } ?? decoder!.push(token)
      let (piece, stopped) = stopStrings.append(shown, mayStop: mayStop)
      if stopped {
        finishReason = .stop  // what follows the stop string is dropped
        return piece
      }
      text = piece
    }
    if outputCount == options.maxTokens || tokens.count == contextLength { text += finish(.length) }
    return text
  }

  private mutating func finish(_ reason: FinishReason) -> String {
    finishReason = reason
    return stopStrings.append(decoder?.finish() ?? "", mayStop: false).text + stopStrings.finish()
  }
}
