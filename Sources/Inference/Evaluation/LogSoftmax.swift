import TensorCore

extension UnsafeBufferPointer<Float> {
  /// max + log Σ exp(x − max), in double precision: what log-probabilities are relative to.
  func logSumExp() -> Double {
    let best = Double(self.max() ?? 0)
    var sum = 0.0
    for value in self { sum += PortableMath.exp(Double(value) - best) }
    return best + PortableMath.log(sum)
  }

  /// The index of the largest element, of equals the first.
  func argmax() -> Int { indices.reduce(0) { self[$1] > self[$0] ? $1 : $0 } }
}
