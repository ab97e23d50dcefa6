public import Tokenization

/// How likely the model found a token, and which it found the likeliest in its place: natural logarithms
/// of probabilities, before penalties, biases and temperature.
public struct TokenLogprobs: Sendable, Equatable {
  public let token: TokenID
  public let logprob: Double
  /// In descending order; of equals the lowest id first.
  public let top: [Alternative]

  /// A token and its log-probability.
  public struct Alternative: Sendable, Equatable {
    public let token: TokenID
    public let logprob: Double
  }

  /// - Parameters:
  ///   - count: of the likeliest tokens.
  ///   - logits: of the position that `token` stands in.
  /// - Precondition: `token` is one of the logits' and no logit is a NaN.
  public init(_ token: TokenID, top count: Int, logits: UnsafeBufferPointer<Float>) {
    let norm = logits.logSumExp()
    self.token = token
    logprob = Double(logits[Int(token)]) - norm
    var best: [(id: Int, logit: Float)] = []
    if count > 0 {
      for (id, logit) in logits.enumerated() {
        if best.count == count, logit <= best[count - 1].logit { continue }
        if best.count == count { best.removeLast() }
        let place = best.firstIndex { $0.logit < logit } ?? best.count
        best.insert((id, logit), at: place)
      }
    }
    top = best.map { Alternative(token: TokenID($0.id), logprob: Double($0.logit) - norm) }
  }
}
