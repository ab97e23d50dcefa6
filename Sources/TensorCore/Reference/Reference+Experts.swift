extension Reference {
  /// The experts of one token: those with the largest logits, of equal ones the first, and the softmax
  /// over their logits.
  ///
  /// - Parameters:
  ///   - logits: `count` of them.
  ///   - chosen: receives `used` experts, largest logit first.
  ///   - weights: receives their weights.
  /// - Precondition: `0 < used <= count`.
  public static func route(
    _ logits: UnsafePointer<Float>, count: Int, used: Int, chosen: UnsafeMutablePointer<Int>,
    weights: UnsafeMutablePointer<Float>
  ) {
    precondition(0 < used && used <= count)
    withUnsafeTemporaryAllocation(of: Bool.self, capacity: count) { taken in
      taken.initialize(repeating: false)
      for rank in 0..<used {
        var best: Int?
        for expert in 0..<count where !taken[expert] {
          if best == nil || logits[expert] > logits[best!] { best = expert }
        }
        chosen[rank] = best!
        taken[best!] = true
      }
    }
    var sum: Float = 0
    for rank in 0..<used {
      weights[rank] = exp(logits[chosen[rank]] - logits[chosen[0]])
      sum += weights[rank]
    }
    for rank in 0..<used { weights[rank] /= sum }
  }

  /// The sum of rows of `count` values, each times its weight: the first by a multiply, later ones by
  /// fma, in order.
  public static func mix(
    _ rows: [UnsafePointer<Float>], weights: [Float], count: Int,
    output: UnsafeMutablePointer<Float>
  ) {
    for index in 0..<count {
      var sum = weights[0] * rows[0][index]
      for row in 1..<rows.count { sum = sum.addingProduct(weights[row], rows[row][index]) }
      output[index] = sum
    }
  }
}
