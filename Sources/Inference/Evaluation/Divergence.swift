import TensorCore

/// How far a model's predictions are from those of a reference on the same text.
public struct Divergence: Sendable, Equatable {
  /// The Kullback-Leibler divergence KL(reference ‖ model) of next-token distributions, in nats.
  public let mean: Estimate
  /// The divergence that half of the predictions do not exceed.
  public let median: Double
  /// The divergence that 99 % of the predictions do not exceed.
  public let percentile99: Double
  /// The largest divergence.
  public let maximum: Double
  /// Share of predictions at which both have the same best token.
  public let top1Agreement: Estimate
  /// Of the reference.
  public let referencePerplexity: Perplexity
  /// Natural logarithm of the model's perplexity over the reference's. Its errors are those of
  /// paired differences, far smaller than what the two perplexities' errors suggest.
  public let logPerplexityRatio: Estimate
}

extension Divergence {
  /// The divergence of one prediction, of as many logits as the reference's; and log Σ exp of both.
  ///
  /// Σ p (log p − log q) = Σ p (x − y) − logΣexp x + logΣexp y, for logits x and y.
  public static func between(
    _ x: UnsafeBufferPointer<Float>, _ y: UnsafeBufferPointer<Float>
  ) -> (divergence: Double, referenceLogSum: Double, logSum: Double) {
    let best = Double(x.max() ?? 0)
    var (sum, weighted) = (0.0, 0.0)
    for index in x.indices {
      let weight = PortableMath.exp(Double(x[index]) - best)
      sum += weight
      weighted += weight * (Double(x[index]) - Double(y[index]))
    }
    let (logX, logY) = (best + PortableMath.log(sum), y.logSumExp())
    // Rounding must not make a divergence negative.
    return (max(0, weighted / sum - logX + logY), logX, logY)
  }
}

/// The residual stream of a model beside that of a reference, at one depth and averaged over the
/// scored positions.
public struct LayerDivergence: Sendable, Equatable {
  /// Layers passed: 0 is the embedding, the number of layers what the final norm reads.
  public let depth: Int
  /// Cosine of the angle between the two hidden states; 1 is the same direction.
  public let cosine: Double
  /// Length of the difference over the length of the reference's hidden state. Where that is zero:
  /// 0 for equal states, otherwise 1.
  public let relativeError: Double
}
