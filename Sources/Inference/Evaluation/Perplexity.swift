import TensorCore

/// How well a model predicts a text.
public struct Perplexity: Sendable, Equatable {
  /// Negative log-likelihood of a token, in nats.
  public let loss: Estimate

  init(_ loss: Estimate) { self.loss = loss }

  /// The perplexity: e to the mean loss; infinite where that is beyond double precision.
  public var value: Double { PortableMath.exp(loss.mean) }

  /// Of ``value``, to first order: the loss's, times the perplexity. Tokens count as independent.
  public var standardError: Double { value * loss.standardError }

  /// Of ``value``, from the spread between windows; nil with fewer than two.
  public var windowStandardError: Double? { loss.windowStandardError.map { value * $0 } }
}
