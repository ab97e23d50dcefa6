import Inference
import Tokenization

/// A request on its way: what there is to compute, and where its events go. Made by whoever submits it,
/// then the engine's thread's alone.
final class Sequence: @unchecked Sendable {  // see above
  let id: Int
  private let request: EngineRequest
  private(set) var completion: Completion
  private let events: EngineEvents.Continuation
  /// What has been computed; nil while the sequence waits.
  var session: Session?
  private var promptLogprobs: [TokenLogprobs] = []
  private let submitted = ContinuousClock.now
  /// When the sequence first left the queue.
  private var started: ContinuousClock.Instant?
  private var firstToken: ContinuousClock.Instant?
  private var lastToken: ContinuousClock.Instant?
  private var cachedTokens = 0
  /// How the sequence ended, once it has.
  private var outcome: Result<GenerationSummary, any Error>?

  init(
    id: Int, request: EngineRequest, completion: Completion, events: EngineEvents.Continuation
  ) {
    self.id = id
    self.request = request
    self.completion = completion
    self.events = events
  }

  var isFinished: Bool { outcome != nil }
  var tokens: [TokenID] { completion.tokens }
  /// Tokens that are still to be computed before the next one can be chosen.
  var pending: Int { completion.tokens.count - (session?.position ?? 0) }
  /// Whether a single token is due, as in every step after the prompt.
  var decodes: Bool { pending == 1 && completion.outputCount > 0 }
  /// Whether the logits after each token of the prompt are wanted.
  private var scores: Bool { request.promptLogprobs != nil && completion.outputCount == 0 }

  var promptCount: Int { completion.prompt.count }

  /// Whether what others have computed is of use.
  var reusesPrefixes: Bool { !scores }

  /// How much of what `other` has seen can be taken over.
  func reusableTokens(_ other: Session) -> Int {
    scores ? 0 : other.restartPosition(upTo: completion.reusableTokens(other.tokens))
  }

  /// - Parameter cached: tokens that `session` has seen already.
  func start(_ session: Session, cached: Int) {
    self.session = session
    promptLogprobs = []
    if started == nil {
      started = .now
      cachedTokens = cached
    }
  }

  /// What a step appends, at most `count` tokens.
  func step(_ count: Int) -> Batch.Step {
    let session = session!
    if !decodes {
      let count = completion.prompt.count
      events.yield(.reading(min(session.position, count), of: count))
    }
    var end = min(session.position + count, tokens.count)
    // Whoever has the same prompt runs its last token again: that is where a state must be kept.
    if session.hasState, end == promptCount, end - session.position > 1 { end -= 1 }
    return Batch.Step(
      session, tokens: Array(tokens[session.position..<end]),
      logits: scores ? .all : end == tokens.count ? .last : .none)
  }

  /// Takes the logits that follow the token at `position`.
  ///
  /// - Returns: how long the reader of the events waited for this token, if one was chosen.
  func receive(
    _ logits: UnsafeBufferPointer<Float>, position: Int
  ) throws(InferenceError) -> Latency? {
    if scores {
      if position + 1 < completion.prompt.count {
        promptLogprobs.append(
          TokenLogprobs(
            completion.prompt[position + 1], top: request.promptLogprobs!, logits: logits))
        return nil
      }
      events.yield(.prompt(promptLogprobs))
      promptLogprobs = []
    }
    if !request.generates {
      finish(.length)
      return nil
    }
    let choice = try completion.choose(from: logits)
    let now = ContinuousClock.now
    let latency: Latency =
      lastToken.map { .betweenTokens(now - $0) } ?? .firstToken(now - submitted)
    firstToken = firstToken ?? now
    lastToken = now
    events.yield(.chosen(choice))
    if let reason = completion.finishReason { finish(reason) }
    return latency
  }

  /// Ends the sequence early.
  func fail(_ error: any Error) { outcome = .failure(error) }

  private func finish(_ reason: FinishReason) {
    let now = ContinuousClock.now
    let first = firstToken ?? now
    outcome = .success(
      GenerationSummary(
        finishReason: reason, promptTokens: completion.prompt.count, cachedTokens: cachedTokens,
        completionTokens: completion.outputCount, prefillTime: first - (started ?? first),
        decodeTime: now - first))
  }

  /// Tells the reader of the events how the sequence ended: last of all, so that whoever asks again at
  /// once finds the place free.
  func announce() {
    switch outcome! {
    case .success(let summary):
      events.yield(.finished(summary))
      events.finish()
    case .failure(let error): events.finish(throwing: error)
    }
  }
}

/// What a reader of tokens waited for.
enum Latency {
  /// Since the request.
  case firstToken(Duration)
  case betweenTokens(Duration)
}
