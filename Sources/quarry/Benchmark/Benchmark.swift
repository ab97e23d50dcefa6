import Inference
import ModelFiles
import TensorCore
import Tokenization

/// Measures how fast a model runs beside what the machine could do at best: before and after every
/// run of the model comes a measurement of the ceiling that binds it, so that what else happens on
/// the machine moves both.
struct Benchmark {
  let model: Model
  let repetitions: Int
  typealias Bandwidth = (kind: Ceilings.ReadProbe.Kind, bytesPerSecond: Double)

  /// Of each kind of memory that could be measured.
  let bandwidths: [Bandwidth]
  /// That of the kind that is read faster.
  private let probe: Ceilings.ReadProbe
  private let workload: Workload
  /// Tokens decoded in a run.
  static let decodedTokens = 16

  init(model: Model, repetitions: Int) {
    self.model = model
    self.repetitions = repetitions
    workload = model.workload
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
    let byteCount =
      Double(workload.weightByteCount) + positions * Double(workload.cacheBytesPerPosition)
    session.reset()
    return try measure(.decode, tokens: Self.decodedTokens, depth: depth) {
      probe.bytesPerSecond(pool: model.pool) / byteCount
    } run: {
      // The session still has the prompt of the run before; the first token is not timed.
      try complete(prompt, Self.decodedTokens + 1, in: session).decodeRate
    }
  }

  private func measure(
    _ phase: BenchmarkFigure.Phase, tokens: Int, depth: Int, ceiling: () -> Double?,
    run: () throws -> Double
  ) throws -> BenchmarkFigure {
    BenchmarkFigure(
      phase: phase, tokens: tokens, depth: depth,
      pairs: try PairedRates(repetitions, ceiling: ceiling, run: run))
  }

  private func complete(
    _ prompt: [TokenID], _ count: Int, in session: Session
  ) throws -> GenerationSummary {
    var options = GenerationOptions()
    options.maxTokens = count
    var generator = try Generator(
      session: session, prompt: prompt, options: options, stopTokens: [])
    while let event = try generator.next() {
      guard case .finished(let summary) = event else { continue }
      if summary.finishReason == .cancelled { throw CancellationError() }
      return summary
    }
    preconditionFailure("a generator ends with .finished")
  }

  /// Which tokens does not matter, as long as they are not all the same.
  private func tokens(_ count: Int) -> [TokenID] {
    (0..<count).map { TokenID(($0 * 7919 + 13) % model.configuration.vocabularySize) }
  }
}

/// One row of a benchmark's table.
struct BenchmarkFigure {
  enum Phase: String { case prefill, decode }

  let phase: Phase
  /// Tokens of a run.
  let tokens: Int
  /// Tokens in the context before them.
  let depth: Int
  /// Tokens per second.
  let pairs: PairedRates
}
