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
