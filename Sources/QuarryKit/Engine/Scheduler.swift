import Inference
import Tokenization

/// What the engine's thread does: which sequences run, and what each of them computes in a step. Made
/// by the engine, then its thread's alone.
final class Scheduler: @unchecked Sendable {  // see above
  private let configuration: EngineConfiguration
  private let cacheTiles: Int
  private let batch: Batch
  private let budget: CacheBudget
  /// What every session begins as.
  private let empty: Session
  private let messageStart: TokenID?
  private var pace = PrefillPace()
  /// First come, first served.
  private var waiting: [Sequence] = []
  /// In the order in which they were admitted.
  private var running: [Sequence] = []
  /// What finished sequences computed, for those that begin like them; the one used last at the end.
  private var finished: [Session] = []
  /// Ended since the last step.
  private var ended: [Sequence] = []
  private(set) var statistics = EngineStatistics()

  /// - Throws: as `Session.init`.
  init(
    model: Model, configuration: EngineConfiguration, cacheTiles: Int
  ) throws(InferenceError) {
    self.configuration = configuration
    self.cacheTiles = cacheTiles
    budget = CacheBudget()
    empty = try Session(
      model: model, contextLength: configuration.contextLength,
      cacheType: configuration.cacheType, budget: budget)
    batch = Batch(model: model)
    messageStart = model.messageStart
    statistics.slots = configuration.slots
    statistics.cacheTileLimit = cacheTiles
  }

  var isIdle: Bool { waiting.isEmpty && running.isEmpty }

  func enqueue(_ sequences: [Sequence]) {
    statistics.requests += sequences.count
    waiting += sequences
  }

  func cancel(_ id: Int) {
    let sequence = (running + waiting).first { $0.id == id }
    guard let sequence else { return }
    sequence.fail(CancellationError())
    statistics.cancelled += 1
    retire()
  }

  /// Ends everything.
  func stop() {
    for sequence in running + waiting { sequence.fail(EngineError.stopped) }
    retire()
  }

  /// Admits sequences, and computes a token of each that decodes and a chunk of prompts.
  ///
  /// - Returns: what has ended since the last step, and waits to be announced.
  func step() -> [Sequence] {
    admit()
    let steps = plan()
    if !steps.isEmpty { run(steps) }
    statistics.running = running.count
    statistics.waiting = waiting.count
    statistics.cacheTiles = budget.tileCount
    defer { ended = [] }
    return ended
  }

  // MARK: - Slots

  /// Removes what has ended; the keys and values of sequences that ended well are kept.
  private func retire() {
    ended += (running + waiting).filter(\.isFinished)
    for sequence in running where sequence.isFinished {
      if let session = sequence.session { keep(session) }
      sequence.session = nil
    }
    running.removeAll(where: \.isFinished)
    waiting.removeAll(where: \.isFinished)
  }

  /// Keeps a session for its prefix, in place of others that it begins with.
  private func keep(_ session: Session) {
    if session.position == 0 || finished.contains(where: { $0.tokens.starts(with: session.tokens) })
    {
      return
    }
    finished.removeAll { session.tokens.starts(with: $0.tokens) }
    finished.append(session)
  }

  private func admit() {
    var index = 0
    while running.count < configuration.slots, index < waiting.count {
      let sequence = waiting[index]
      guard hasRoom(for: sequence) else { return }  // nobody overtakes a long one for ever
      let (source, fork) = longestPrefix(for: sequence)
      // Another one is computing more of what both begin with.
      if running.contains(where: { commonWork($0, sequence) > source.count }) {
        index += 1
        continue
      }
      waiting.remove(at: index)
      sequence.start(
        session(sharing: source), cached: source.count, fork: fork, messageStart: messageStart)
      statistics.reusedTokens += source.count
      running.append(sequence)
    }
  }

  /// Whether the tiles suffice for all running prompts and this one, and a token of each.
  private func hasRoom(for sequence: Sequence) -> Bool {
    let needed = (running + [sequence]).reduce(0) {
      $0 + CacheBudget.tileCount($1.tokens.count + 1, of: batch.model, configuration.cacheType)
    }
    return running.isEmpty || needed <= cacheTiles
  }

  /// Tokens that `sequence` can take over from `other` once that has read its prompt.
  private func commonWork(_ other: Sequence, _ sequence: Sequence) -> Int {
    guard !other.decodes, sequence.reusesPrefixes else { return 0 }
    return other.restartPosition(upTo: sequence.completion.reusableTokens(other.tokens))
  }

  /// The session of which most can be taken over, and the most tokens that any has in common with
  /// `sequence`.
  private func longestPrefix(
    for sequence: Sequence
  ) -> (source: (session: Session?, count: Int), common: Int) {
    var best: (session: Session?, count: Int) = (nil, 0)
    guard sequence.reusesPrefixes else { return (best, 0) }
    var longest = 0
    for session in finished + running.compactMap(\.session) {
      let common = sequence.completion.reusableTokens(session.tokens)
      longest = max(longest, common)
      let count = session.restartPosition(upTo: common)
      if count > best.count { best = (session, count) }
    }
    return (best, longest)
  }

  private func session(sharing source: (session: Session?, count: Int)) -> Session {
    let other = source.session ?? empty
    let session = Session(sharing: other, upTo: source.count)
    if let index = finished.firstIndex(where: { $0 === other }) {
      finished.remove(at: index)
      // A continuation takes its place; of one that differs later, both may be wanted again.
      if source.count < other.position { finished.append(other) }
    }
    return session
  }

  // MARK: - Steps

  /// What each running sequence computes next, once there is room for all of it.
  private func plan() -> [(sequence: Sequence, step: Batch.Step)] {
    while true {
      let counts = tokenCounts()
      let needed = zip(running, counts).reduce(0) { $0 + $1.0.session!.newTiles(appending: $1.1) }
      if budget.tileCount + needed <= cacheTiles {
        return zip(running, counts).map { ($0, $0.step($1)) }
      }
      if !finished.isEmpty {
        finished.removeFirst()
      } else if !running.contains(where: { $0.session!.dropKeptState() }) {
        // The last to come starts again later: it will compute the same.
        let sequence = running.removeLast()
        sequence.session = nil
        waiting.insert(sequence, at: 0)
        statistics.preemptions += 1
      }
    }
  }

  /// One token for each sequence that decodes; those that read prompts share what is left of a step's
  /// time.
  private func tokenCounts() -> [Int] {
    let readers = running.count { !$0.decodes }
    var left = pace.tokens(whileDecoding: readers < running.count)
    var others = readers
    return running.map { sequence in
      if sequence.decodes { return 1 }
      let count = min(sequence.pending, max(1, left / others))
      left -= count
      others -= 1
      return count
    }
  }

  /// Keeps states of recurrent layers, within a share of the memory; those that were used least recently
  /// go first.
  private func keepStates() {
    guard empty.hasState else { return }
    for sequence in running where sequence.isAtKeptState {
      sequence.session!.keepState(limit: .max)
    }
    let sessions = finished + running.compactMap(\.session)
    while budget.keptTileCount > cacheTiles / 2 || budget.tileCount > cacheTiles,
      let session = sessions.min(by: {
        $0.leastRecentUse ?? .max < $1.leastRecentUse ?? .max
      }), session.dropKeptState()
    {}
  }

  private func run(_ steps: [(sequence: Sequence, step: Batch.Step)]) {
    let firsts = steps.map { $0.sequence.session!.position }
    let read = steps.reduce(0) { $0 + ($1.sequence.decodes ? 0 : $1.step.tokens.count) }
    let start = ContinuousClock.now
    var failures: [Int: InferenceError] = [:]
    let errors = batch.run(steps.map(\.step)) { index, token, logits in
      do throws(InferenceError) {
        let latency = try steps[index].sequence.receive(logits, position: firsts[index] + token)
        if let latency { statistics.add(latency) }
      } catch {
        failures[index] = error
      }
    }
    pace.add(read: read, in: ContinuousClock.now - start)
    keepStates()
    statistics.steps += 1
    statistics.prefilledTokens += read
    statistics.sequenceSteps += steps.count
    for (index, error) in errors.enumerated() {
      guard let error = failures[index] ?? error else { continue }
      let sequence = steps[index].sequence
      sequence.session = nil
      sequence.fail(error)
      statistics.failed += 1
    }
    retire()
  }
}
