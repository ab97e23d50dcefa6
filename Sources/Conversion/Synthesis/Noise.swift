/// Random words by position: word i of a stream depends on its key and on i alone, so that any
/// thread makes any part of it.
///
/// The mixing function is that of SplitMix64 (Steele, Lea and Flood, 2014).
struct Noise {
  private let key: UInt64

  init(seed: UInt64, stream: UInt64) {
    key = Self.mix(seed &+ Self.mix(stream &+ 1))
  }

  @inline(__always)
  subscript(index: Int) -> UInt64 {
    Self.mix(key &+ UInt64(truncatingIfNeeded: index) &* 0x9E37_79B9_7F4A_7C15)
  }

  @inline(__always)
  private static func mix(_ word: UInt64) -> UInt64 {
    var z = word
    z = (z ^ (z &>> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z &>> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z &>> 31)
  }
}

/// Quantiles of Student's t distribution with four degrees of freedom, scaled to variance 1: the
/// tails of trained weights are about as heavy.
enum StudentT {
  /// Quantile of (i + ½) / 2¹⁶ for each i: a random 16-bit number picks a random variate.
  static let quantiles: [Float] = {
    let count = 1 << 15
    var lower = [Float](repeating: 0, count: count)
    for index in 0..<count {
      lower[index] = Float(quantile((Double(index) + 0.5) / Double(2 * count)) / 2.0.squareRoot())
    }
    return lower + lower.reversed().map { -$0 }
  }()

  /// Inverts the distribution function, which is algebraic for four degrees of freedom, by
  /// bisection: square root and arithmetic only, so the same everywhere. `p` is below ½.
  private static func quantile(_ p: Double) -> Double {
    var (low, high) = (-64.0, 0.0)
    for _ in 0..<48 {
      let x = (low + high) / 2
      let q = 1 + x * x / 4
      let probability = 0.5 + 0.375 * (x / q.squareRoot()) * (1 - x * x / (12 * q))
      if probability < p { low = x } else { high = x }
    }
    return (low + high) / 2
  }
}
