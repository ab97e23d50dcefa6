import TensorCore
public import Tokenization

/// How far a model's predictions are from those of a reference: the Kullback-Leibler divergence
/// KL(reference ‖ candidate) of next-token distributions, in nats.
public struct Divergence: Sendable, Equatable {
  /// Positions compared.
  public let tokenCount: Int
  /// Over all positions.
  public let mean: Double
  /// Of the mean.
  public let standardError: Double
  /// The divergence that 99 % of the positions do not exceed.
  public let percentile99: Double
  /// Share of positions at which both have the same best token.
  public let top1Agreement: Double
  /// Of both on the same text.
  public let referencePerplexity: Perplexity
  /// Of the candidate on the same text.
  public let candidatePerplexity: Perplexity

  /// Compares two models on `tokens` in windows of `windowLength`, each from position 0; what is left
  /// over is dropped. Logits are compared as they come: nothing of their size is kept.
  ///
  /// - Precondition: `windowLength` is positive.
  /// - Parameter progress: called with the number of windows done and that of all.
  /// - Throws: ``InferenceError`` (also for models of different vocabularies), `CancellationError`.
  public static func evaluate(
    _ candidate: Session, reference: Session, tokens: [TokenID], windowLength: Int = 512,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws -> Divergence {
    let vocabularySizes = [reference, candidate].map { $0.model.shape.vocabularySize }
    guard vocabularySizes[0] == vocabularySizes[1] else {
      throw InferenceError.vocabularies(vocabularySizes[0], vocabularySizes[1])
    }
    let windows = tokenWindows(tokens, length: windowLength)
    var comparison = LogitsComparison()
    for (index, window) in windows.enumerated() {
      reference.reset()
      candidate.reset()
      for start in stride(from: window.startIndex, to: window.endIndex, by: rowsPerStep) {
        let rows = start..<min(start + rowsPerStep, window.endIndex)
        let next = window[rows.lowerBound..<min(rows.upperBound + 1, window.endIndex)].dropFirst()
        let both = try [reference, candidate].map { session in
          var logits: [Float] = []
          logits.reserveCapacity(rows.count * vocabularySizes[0])
          try session.append(window[rows], logits: .all) { logits += $1 }
          return logits
        }
        comparison.add(
          reference: both[0], candidate: both[1], rows: rows.count, next: Array(next),
          pool: candidate.model.pool)
      }
      progress(index + 1, windows.count)
    }
    return comparison.result
  }

  /// Tokens whose logits are held at once.
  private static let rowsPerStep = 32
}

/// Gathers what ``Divergence`` reports, row by row.
struct LogitsComparison {
  private var divergences: [Double] = []
  private var agreements = 0
  private var referenceLosses: [Double] = []
  private var candidateLosses: [Double] = []

  private struct Row: Sendable {
    var divergence = 0.0
    var agrees = false
    var losses: (reference: Double, candidate: Double)?
  }

  /// Adds `rows` positions of row-major logits.
  ///
  /// - Parameter next: the tokens that follow the first rows, for their losses.
  mutating func add(
    reference: [Float], candidate: [Float], rows: Int, next: [TokenID], pool: WorkerPool
  ) {
    let width = reference.count / rows
    var results = Array(repeating: Row(), count: rows)
    results.withUnsafeMutableBufferPointer { results in
      let results = SharedPointer(results.baseAddress!)
      pool.parallelFor(rows) { row in
        let range = row * width..<(row + 1) * width
        results.pointer[row] = reference[range].withUnsafeBufferPointer { p in
          candidate[range].withUnsafeBufferPointer { q in
            Self.compare(p, q, next: row < next.count ? Int(next[row]) : nil)
          }
        }
      }
    }
    for row in results {
      divergences.append(row.divergence)
      agreements += row.agrees ? 1 : 0
      if let losses = row.losses {
        referenceLosses.append(losses.reference)
        candidateLosses.append(losses.candidate)
      }
    }
  }

  /// Σ p (log p − log q) = Σ p (x − y) − logΣexp x + logΣexp y, for logits x and y.
  private static func compare(
    _ x: UnsafeBufferPointer<Float>, _ y: UnsafeBufferPointer<Float>, next: Int?
  ) -> Row {
    let best = Double(x.max() ?? 0)
    var (sum, weighted) = (0.0, 0.0)
    for index in x.indices {
      let weight = PortableMath.exp(Double(x[index]) - best)
      sum += weight
      weighted += weight * (Double(x[index]) - Double(y[index]))
    }
    let (logX, logY) = (best + PortableMath.log(sum), y.logSumExp())
    return Row(
      // Rounding must not make a divergence negative.
      divergence: max(0, weighted / sum - logX + logY), agrees: x.argmax() == y.argmax(),
      losses: next.map { (logX - Double(x[$0]), logY - Double(y[$0])) })
  }

  var result: Divergence {
    let (mean, standardError) = meanAndStandardError(divergences)
    let sorted = divergences.sorted()
    let rank = (sorted.count * 99 + 99) / 100  // nearest rank
    return Divergence(
      tokenCount: divergences.count, mean: mean, standardError: standardError,
      percentile99: sorted.isEmpty ? 0 : sorted[rank - 1],
      top1Agreement: Double(agreements) / Double(max(divergences.count, 1)),
      referencePerplexity: Perplexity(losses: referenceLosses),
      candidatePerplexity: Perplexity(losses: candidateLosses))
  }
}
