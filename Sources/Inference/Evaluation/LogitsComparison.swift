import TensorCore
import Tokenization

/// Gathers what an ``Evaluation`` reports of predictions, row by row.
struct LogitsComparison {
  /// Predictions of a window.
  let windowLength: Int
  private(set) var losses: [Double] = []
  /// Of the reference, here and below; empty without one.
  private(set) var referenceLosses: [Double] = []
  private(set) var divergences: [Double] = []
  /// 1 where both have the same best token, else 0.
  private(set) var agreements: [Double] = []
  private var sums = (loss: 0.0, divergence: 0.0)

  init(windowLength: Int) { self.windowLength = windowLength }

  private struct Row: Sendable {
    var loss = 0.0
    var referenceLoss = 0.0
    var divergence = 0.0
    var agrees = false
  }

  /// Adds one prediction for each of `next`.
  ///
  /// - Parameters:
  ///   - logits: row-major, as many rows as there are tokens in `next`.
  ///   - reference: the same of the reference.
  ///   - next: the tokens that came.
  mutating func add(
    _ logits: [Float], reference: [Float]?, next: ArraySlice<TokenID>, pool: WorkerPool
  ) {
    let next = Array(next)
    let width = logits.count / next.count
    var rows = Array(repeating: Row(), count: next.count)
    rows.withUnsafeMutableBufferPointer { rows in
      let rows = SharedPointer(rows.baseAddress!)
      pool.parallelFor(next.count) { index in
        let range = index * width..<(index + 1) * width
        let token = Int(next[index])
        rows.pointer[index] = logits[range].withUnsafeBufferPointer { y in
          guard let reference else { return Row(loss: y.logSumExp() - Double(y[token])) }
          return reference[range].withUnsafeBufferPointer { Self.compare($0, y, next: token) }
        }
      }
    }
    losses += rows.map(\.loss)
    sums.loss = rows.reduce(sums.loss) { $0 + $1.loss }
    guard reference != nil else { return }
    referenceLosses += rows.map(\.referenceLoss)
    divergences += rows.map(\.divergence)
    sums.divergence = rows.reduce(sums.divergence) { $0 + $1.divergence }
    agreements += rows.map { $0.agrees ? 1 : 0 }
  }

  private static func compare(
    _ x: UnsafeBufferPointer<Float>, _ y: UnsafeBufferPointer<Float>, next: Int
  ) -> Row {
    let result = Divergence.between(x, y)
    return Row(
      loss: result.logSum - Double(y[next]),
      referenceLoss: result.referenceLogSum - Double(x[next]),
      divergence: result.divergence, agrees: x.argmax() == y.argmax())
  }

  /// Means so far; nil before the first prediction, and without a reference.
  var running: (loss: Double?, divergence: Double?) {
    (
      losses.isEmpty ? nil : sums.loss / Double(losses.count),
      divergences.isEmpty ? nil : sums.divergence / Double(divergences.count)
    )
  }

  var perplexity: Perplexity { Perplexity(estimate(losses)) }

  /// Nil without a reference.
  var divergence: Divergence? {
    guard !divergences.isEmpty else { return nil }
    let sorted = divergences.sorted()
    return Divergence(
      mean: estimate(divergences), median: sorted.percentile(50),
      percentile99: sorted.percentile(99), maximum: sorted[sorted.count - 1],
      top1Agreement: estimate(agreements),
      referencePerplexity: Perplexity(estimate(referenceLosses)),
      logPerplexityRatio: estimate(zip(losses, referenceLosses).map { $0 - $1 }))
  }

  /// The means of each window.
  var windows: [Evaluation.Window] {
    func means(_ values: [Double]) -> [Double] {
      Estimate.windowMeans(values, windowLength: windowLength)
    }
    let loss = means(losses)
    guard !divergences.isEmpty else {
      return loss.map { Evaluation.Window(loss: $0, reference: nil) }
    }
    let reference = zip(means(referenceLosses), zip(means(divergences), means(agreements)))
    return zip(loss, reference).map { loss, reference in
      Evaluation.Window(
        loss: loss,
        reference: .init(
          loss: reference.0, divergence: reference.1.0, top1Agreement: reference.1.1))
    }
  }

  private func estimate(_ values: [Double]) -> Estimate {
    Estimate(values, windowLength: windowLength)
  }
}
