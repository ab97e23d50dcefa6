import TensorCore
public import Tokenization

/// How well a model predicts a text.
public struct Perplexity: Sendable, Equatable {
  /// Predicted tokens: all but the first of every window.
  public let tokenCount: Int
  /// Mean negative log-likelihood of a token, in nats; perplexity is its exponential.
  public let meanLoss: Double
  /// Of the mean.
  public let standardError: Double

  init(losses: [Double]) {
    tokenCount = losses.count
    (meanLoss, standardError) = meanAndStandardError(losses)
  }

  /// The perplexity: e to the mean loss.
  public var value: Double { PortableMath.exp(meanLoss) }

  /// Evaluates `tokens` in windows of `windowLength`, each from position 0; what is left over is
  /// dropped.
  ///
  /// - Precondition: `windowLength` is positive.
  /// - Parameter progress: called with the number of windows done and that of all.
  /// - Throws: ``InferenceError``, `CancellationError`.
  public static func evaluate(
    _ session: Session, tokens: [TokenID], windowLength: Int = 512,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws -> Perplexity {
    let windows = tokenWindows(tokens, length: windowLength)
    var losses: [Double] = []
    for (index, window) in windows.enumerated() {
      session.reset()
      try session.append(window, logits: .all) { row, logits in
        if row + 1 < window.count {
          losses.append(
            logits.logSumExp() - Double(logits[Int(window[window.startIndex + row + 1])]))
        }
      }
      progress(index + 1, windows.count)
    }
    return Perplexity(losses: losses)
  }
}
