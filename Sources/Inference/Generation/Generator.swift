public import Tokenization

/// What a ``Generator`` yields.
public enum GenerationEvent: Sendable, Equatable {
  /// A token was chosen; the last may be a stop token, which is no part of the text.
  case token(TokenID)
  /// More text: whole characters, never a part of a stop string. Never empty.
  case text(String)
  /// The last event.
  case finished(GenerationSummary)
}

/// Why a completion ended.
public enum FinishReason: String, Sendable {
  /// At a stop token or stop string.
  case stop
  /// At the most tokens that were asked for, or at the end of the context.
  case length
  case cancelled
}

/// What a completion was and took.
public struct GenerationSummary: Sendable, Equatable {
  /// Why the completion ended.
  public let finishReason: FinishReason
  /// Tokens of the prompt.
  public let promptTokens: Int
  /// Those of the prompt that the session had seen already.
  public let cachedTokens: Int
  /// Tokens chosen, a stop token included.
  public let completionTokens: Int
  /// From the start to the first chosen token.
  public let prefillTime: Duration
  /// From the first chosen token to the last.
  public let decodeTime: Duration

  /// Prompt tokens computed per second.
  public var prefillRate: Double {
    Double(promptTokens - cachedTokens) / (prefillTime / .seconds(1))
  }

  /// Tokens chosen per second after the first; 0 if there were none.
  public var decodeRate: Double {
    completionTokens < 2 ? 0 : Double(completionTokens - 1) / (decodeTime / .seconds(1))
  }
}

/// Completes a prompt, event by event:
///
///     var generator = try Generator(session: session, prompt: tokens, options: options)
///     while let event = try generator.next() {
///       if case .text(let text) = event { print(text, terminator: "") }
///     }
///
/// The session keeps prompt and completion, and a following prompt that begins with them is computed
/// only from where it differs. Cancelling the task, or whatever ``Session/isCancelled`` asks, ends the
/// completion with ``FinishReason/cancelled``.
public struct Generator {
  private let session: Session
  private let prompt: [TokenID]
  private let options: GenerationOptions
  private let stopTokens: Set<TokenID>
  private let processors: [any LogitsProcessor]
  private let sampler: Sampler
  private let clock = ContinuousClock()
  private let start: ContinuousClock.Instant
  private var firstToken: ContinuousClock.Instant?
  private var cachedTokens = 0
  private var history: TokenHistory
  private var lastToken: TokenID?
  /// Nil for a model without a tokenizer: there are only tokens then.
  private var decoder: StreamDecoder?
  private var stopStrings: StopStrings
  private var events: [GenerationEvent] = []
  private var isFinished = false

  /// - Parameters:
  ///   - prompt: at least one token, fewer than the context holds.
  ///   - stopTokens: ids that end the completion; by default the model's.
  /// - Throws: ``InvalidOption``; ``InferenceError/emptyPrompt``,
  ///   ``InferenceError/contextExceeded(needed:limit:)``,
  ///   ``InferenceError/tokenOutOfRange(token:index:vocabularySize:)``.
  public init(
    session: Session, prompt: [TokenID], options: GenerationOptions,
    stopTokens: Set<TokenID>? = nil
  ) throws {
    let vocabularySize = session.model.shape.vocabularySize
    try options.validate(vocabularySize: vocabularySize)
    if prompt.isEmpty { throw InferenceError.emptyPrompt }
    if prompt.count >= session.contextLength {
      throw InferenceError.contextExceeded(needed: prompt.count + 1, limit: session.contextLength)
    }
    for (index, token) in prompt.enumerated() where !(0..<vocabularySize).contains(Int(token)) {
      throw InferenceError.tokenOutOfRange(
        token: Int(token), index: index, vocabularySize: vocabularySize)
    }
    let tokenizer = try session.model.tokenizer
    if tokenizer == nil, let stop = options.stop.first {
      throw InvalidOption(
        name: "stop", value: stop, expected: "left out: the model has no tokenizer, so no text")
    }
    self.session = session
    self.prompt = prompt
    self.options = options
    self.stopTokens = stopTokens ?? session.model.stopTokens
    processors = options.makeProcessors(stopTokens: self.stopTokens)
    sampler = Sampler(options)
    history = TokenHistory(prompt: prompt)
    decoder = tokenizer.map { StreamDecoder($0, skipSpecialTokens: true) }
    stopStrings = StopStrings(options.stop)
    start = clock.now
  }

  /// The next event; nil after ``GenerationEvent/finished(_:)``. Computes the prompt on the first call,
  /// then a token whenever an event is due.
  ///
  /// - Throws: ``InferenceError``. The completion cannot go on afterwards.
  public mutating func next() throws -> GenerationEvent? {
    while events.isEmpty && !isFinished {
      do {
        try step()
      } catch is CancellationError {
        finish(.cancelled)
      } catch {
        isFinished = true
        throw error
      }
    }
    return events.isEmpty ? nil : events.removeFirst()
  }

  /// Chooses one token and queues what comes of it.
  private mutating func step() throws {
    var logits = try nextLogits()
    let token = try logits.withUnsafeMutableBufferPointer { logits in
      for processor in processors { processor.process(logits, history: history) }
      return try sampler.sample(
        logits,
        draw: Philox.draw(
          seed: options.seed, choice: options.choice, position: UInt64(session.position)))
    }
    history.append(token)
    lastToken = token
    firstToken = firstToken ?? clock.now
    events.append(.token(token))
    // Minimum length masks stop tokens, so one that is chosen ends the completion.
    if stopTokens.contains(token) { return finish(.stop) }
    if decoder != nil {
      let mayStop = history.outputCount > options.minTokens
      let (text, stopped) = stopStrings.append(decoder!.push(token), mayStop: mayStop)
      emit(text)
      if stopped { return finish(.stop, dropsRest: true) }
    }
    if history.outputCount == options.maxTokens
      || prompt.count + history.outputCount == session.contextLength
    {
      finish(.length)
    }
  }

  /// The logits that follow what there is: of the prompt, or of the token chosen last.
  private mutating func nextLogits() throws -> [Float] {
    if let lastToken {
      return try session.logits(appending: CollectionOfOne(lastToken))
    }
    let common = zip(session.tokens, prompt).prefix { $0 == $1 }.count
    cachedTokens = min(common, prompt.count - 1)
    session.truncate(to: cachedTokens)
    return try session.logits(appending: prompt[cachedTokens...])
  }

  private mutating func emit(_ text: String) {
    if !text.isEmpty { events.append(.text(text)) }
  }

  private mutating func finish(_ reason: FinishReason, dropsRest: Bool = false) {
    if !dropsRest {
      let text = stopStrings.append(decoder?.finish() ?? "", mayStop: false).text
      emit(text + stopStrings.finish())
    }
    let now = clock.now
    let first = firstToken ?? now
    events.append(
      .finished(
        GenerationSummary(
          finishReason: reason, promptTokens: prompt.count, cachedTokens: cachedTokens,
          completionTokens: history.outputCount, prefillTime: first - start,
          decodeTime: now - first)))
    isFinished = true
  }
}
