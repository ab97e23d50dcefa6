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
  /// Where in the prompt states of recurrent layers are to be kept, ascending.
  private var statePositions: [Int] = []
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

  /// Whether what others have computed is of use.
  var reusesPrefixes: Bool { !scores }

  /// How much of the first `count` tokens others can take over once they are read, as far as they are not.
  func restartPosition(upTo count: Int) -> Int {
    guard let session, session.hasState else { return count }
    return statePositions.last { $0 > session.position && $0 <= count } ?? 0
  }

  /// Whether the state at the session's position is one to keep.
  var isAtKeptState: Bool { session.map { statePositions.contains($0.position) } ?? false }

  /// - Parameters:
  ///   - cached: tokens that `session` has seen already.
  ///   - fork: tokens that some other session has seen too.
  ///   - messageStart: the token that messages begin with.
  func start(_ session: Session, cached: Int, fork: Int, messageStart: TokenID?) {
    self.session = session
    promptLogprobs = []
    if session.hasState {
      statePositions = StatePositions.of(
        completion.prompt, from: cached, fork: fork, messageStart: messageStart)
    }
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
    // A step ends where a state is to be kept.
    let end = min(
      session.position + count, tokens.count,
      statePositions.first { $0 > session.position } ?? .max)
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
