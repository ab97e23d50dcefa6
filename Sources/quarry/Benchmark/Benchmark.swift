import Inference
import ModelFiles
import TensorCore
import Tokenization

/// Measures how fast a model runs beside what the machine could do at best: before and after every
/// run of the model, or every decoded token, comes a measurement of the ceiling that binds it, so that
/// what else happens on the machine moves both.
struct Benchmark {
  let model: Model
  let repetitions: Int
  private let cacheType: CacheType
  typealias Bandwidth = (kind: Ceilings.ReadProbe.Kind, bytesPerSecond: Double)

  /// Of each kind of memory that could be measured.
  let bandwidths: [Bandwidth]
  /// That of the kind that is read faster.
  private let probe: Ceilings.ReadProbe
  private let workload: Workload
  /// Tokens decoded in a run.
  static let decodedTokens = 16

  init(model: Model, cacheType: CacheType, repetitions: Int) {
    self.model = model
    self.repetitions = repetitions
    self.cacheType = cacheType
    workload = model.workload(cacheType: cacheType)
    // Many times any cache, but never what the system would have to make room for.
    let byteCount = min(2 << 30, (SystemMemory.availableByteCount ?? 4 << 30) / 4)
    var best: (probe: Ceilings.ReadProbe, bytesPerSecond: Double)?
    var bandwidths: [Bandwidth] = []
    for kind in Ceilings.ReadProbe.Kind.allCases {
      guard let probe = Ceilings.ReadProbe(kind, byteCount: byteCount) else { continue }
      let rate = (0..<3).map { _ in probe.bytesPerSecond(pool: model.pool) }.max()!
      bandwidths.append((kind, rate))
      if rate > best?.bytesPerSecond ?? 0 { best = (probe, rate) }
    }
    self.bandwidths = bandwidths
    probe = best!.probe  // huge pages can always be asked for
  }

  /// Reading a prompt of `count` tokens up to the choice of the first new one.
  ///
  /// - Throws: `InferenceError`; `CancellationError`.
  func prefill(_ count: Int, in session: Session) throws -> BenchmarkFigure {
    let operations = 2 * Double(workload.linearWeightCount)
    return try measure(.prefill, tokens: count, depth: 0) {
      Ceilings.int8Rate(pool: model.pool).map { $0 / operations }
    } run: {
      session.reset()
      return try complete(tokens(count), 1, in: session).prefillRate
    }
  }

  /// Choosing tokens one by one after `depth` others.
  ///
  /// - Throws: `InferenceError`; `CancellationError`.
  func decode(depth: Int, in session: Session) throws -> BenchmarkFigure {
    let prompt = tokens(max(1, depth))
    let positions = Double(prompt.count) + Double(Self.decodedTokens + 1) / 2
    let byteCount = workload.decodedByteCount(positions: positions)
    session.reset()
    var generator: Generator?
    let pairs = try PairedRates(repetitions, parts: Self.decodedTokens) {
      probe.bytesPerSecond(pool: model.pool) / byteCount
    } begin: {
      // The session still has the prompt of the run before; the first token is not timed.
      generator = try begin(prompt, Self.decodedTokens + 1, in: session)
      try Self.chooseToken(&generator!)
    } run: {
      try Self.rate { try Self.chooseToken(&generator!) }
    }
    return BenchmarkFigure(
      phase: .decode, tokens: Self.decodedTokens, depth: depth, sequences: 1, pairs: pairs)
  }

  /// The attention of a prompt of `count` tokens, and nothing else; the ceiling is float32
  /// multiply-adds.
  func attention(_ count: Int) throws -> BenchmarkFigure {
    let probe = AttentionProbe(model: model, tokenCount: count, cacheType: cacheType)
    return try measure(.attention, tokens: count, depth: 0) {
      Ceilings.fmaRate(pool: model.pool).map { $0 * Double(count) / probe.operationCount }
    } run: {
      if Interrupt.isRequested { throw CancellationError() }
      return Double(count) / probe.run()
    }
  }

  /// Choosing tokens for `count` sequences at once.
  ///
  /// The ceiling is that of one sequence: reading the weights for each token, and its state twice.
  ///
  /// - Throws: `InferenceError`; `CancellationError`.
  func decodeBatch(_ count: Int) throws -> BenchmarkFigure {
    let batch = Batch(model: model)
    let limit = Self.decodedTokens + 2
    let sessions = try (0..<count).map { _ in
      try Session(
        model: model, contextLength: min(limit, model.configuration.contextLength),
        cacheType: cacheType)
    }
    let byteCount = workload.decodedByteCount(positions: 0)
    let steps = max(1, min(limit, model.configuration.contextLength) - 1)
    var next: [TokenID] = []
    func step() throws {
      if Interrupt.isRequested { throw CancellationError() }
      let errors = batch.run(zip(sessions, next).map { .init($0, tokens: [$1]) }) {
        next[$0] = TokenID(Self.largest($2))
      }
      if let error = errors.compactMap({ $0 }).first { throw error }
    }
    let pairs = try PairedRates(repetitions, parts: steps) {
      probe.bytesPerSecond(pool: model.pool) / byteCount
    } begin: {
      for session in sessions { session.reset() }
      next = (0..<count).map { TokenID($0 % model.configuration.vocabularySize) }
      try step()  // makes room
    } run: {
      Double(count) * (try Self.rate(step))
    }
    return BenchmarkFigure(
      phase: .decode, tokens: Self.decodedTokens, depth: 0, sequences: count, pairs: pairs)
  }

  private static func largest(_ logits: UnsafeBufferPointer<Float>) -> Int {
    var best = 0
    for index in logits.indices where logits[index] > logits[best] { best = index }
    return best
  }

  private func measure(
    _ phase: BenchmarkFigure.Phase, tokens: Int, depth: Int, ceiling: () -> Double?,
    run: () throws -> Double
  ) throws -> BenchmarkFigure {
    BenchmarkFigure(
      phase: phase, tokens: tokens, depth: depth, sequences: 1,
      pairs: try PairedRates(repetitions, ceiling: ceiling, run: run))
  }

  private func complete(
    _ prompt: [TokenID], _ count: Int, in session: Session
  ) throws -> GenerationSummary {
    var generator = try begin(prompt, count, in: session)
    while let event = try generator.next() {
      guard case .finished(let summary) = event else { continue }
      if summary.finishReason == .cancelled { throw CancellationError() }
      return summary
    }
    preconditionFailure("a generator ends with .finished")
  }

  private func begin(
    _ prompt: [TokenID], _ count: Int, in session: Session
  ) throws -> Generator {
    var options = GenerationOptions()
    options.maxTokens = count
    return try Generator(
      session: session, prompt: prompt, options: options, stopTokens: [], keepsPromptState: false)
  }

  /// One of the tokens that a generator has still to choose.
  private static func chooseToken(_ generator: inout Generator) throws {
    while true {
      switch try generator.next() {
      case .token: return
      case .text: continue
      case .finished, nil: throw CancellationError()
      }
    }
  }

  /// How often a second something can be done.
  private static func rate(_ work: () throws -> Void) rethrows -> Double {
    let start = ContinuousClock.now
    try work()
    return .seconds(1) / (ContinuousClock.now - start)
  }

  /// Which tokens does not matter, as long as they are not all the same.
  private func tokens(_ count: Int) -> [TokenID] {
    (0..<count).map { TokenID(($0 * 7919 + 13) % model.configuration.vocabularySize) }
  }
}

/// One row of a benchmark's table.
struct BenchmarkFigure {
  enum Phase: String { case prefill, decode, attention }

  let phase: Phase
  /// Tokens of a run.
  let tokens: Int
  /// Tokens in the context before them.
  let depth: Int
  /// That run at once.
  let sequences: Int
  /// Tokens per second, of all sequences together.
  let pairs: PairedRates
}
