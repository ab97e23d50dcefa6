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

  public init(
    finishReason: FinishReason, promptTokens: Int, cachedTokens: Int, completionTokens: Int,
    prefillTime: Duration, decodeTime: Duration
  ) {
    self.finishReason = finishReason
    self.promptTokens = promptTokens
    self.cachedTokens = cachedTokens
    self.completionTokens = completionTokens
    self.prefillTime = prefillTime
    self.decodeTime = decodeTime
  }

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
  private let keepsPromptState: Bool
  private var completion: Completion
  private let clock = ContinuousClock()
  private let start: ContinuousClock.Instant
  private var firstToken: ContinuousClock.Instant?
  private var cachedTokens = 0
  private var events: [GenerationEvent] = []
  private var isFinished = false

  /// - Parameters:
  ///   - prompt: at least one token, fewer than the context holds.
  ///   - stopTokens: ids that end the completion; by default the model's.
  ///   - keepsPromptState: whether a following prompt may begin as this one does and go on differently
  ///     from what was said. Where a model has recurrent layers, that takes a copy of their state.
  /// - Throws: as ``Completion/init(model:prompt:options:contextLength:stopTokens:)``.
  public init(
    session: Session, prompt: [TokenID], options: GenerationOptions,
    stopTokens: Set<TokenID>? = nil, keepsPromptState: Bool = true
  ) throws {
    self.session = session
    self.keepsPromptState = keepsPromptState
    completion = try Completion(
      model: session.model, prompt: prompt, options: options,
      contextLength: session.contextLength, stopTokens: stopTokens)
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
        emit(completion.cancel())
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
    if firstToken == nil {
      cachedTokens = session.restartPosition(upTo: completion.reusableTokens(session.tokens))
      session.truncate(to: cachedTokens)
    }
    try session.append(completion.tokens[session.position...], logits: .last) { _, logits in
      let choice = try completion.choose(from: logits)
      firstToken = firstToken ?? clock.now
      events.append(.token(choice.token))
      emit(choice.text)
    }
    if keepsPromptState, session.position == completion.prompt.count { session.keepState() }
    if let reason = completion.finishReason { finish(reason) }
  }

  private mutating func emit(_ text: String) {
    if !text.isEmpty { events.append(.text(text)) }
  }

  private mutating func finish(_ reason: FinishReason) {
    let now = clock.now
    let first = firstToken ?? now
    events.append(
      .finished(
        GenerationSummary(
          finishReason: reason, promptTokens: completion.prompt.count, cachedTokens: cachedTokens,
          completionTokens: completion.outputCount, prefillTime: first - start,
          decodeTime: now - first)))
    isFinished = true
  }
}
