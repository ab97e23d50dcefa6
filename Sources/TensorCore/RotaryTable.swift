/// Cosines and sines of rotary position embeddings (Su et al., 2021), the same bits everywhere.
///
/// The angle of pair j at a position is `Float(position) · inverseFrequency[j]`, rounded to float32,
/// with inverseFrequency[j] = theta^(−2j / headSize); its cosine and sine are evaluated in double
/// precision and rounded to float32.
public struct RotaryTable: Sendable {
  /// theta^(−2j / headSize) for j in `0..<headSize / 2`.
  public let inverseFrequencies: [Float]

  /// - Parameter headSize: even.
  public init(headSize: Int, theta: Double) {
    precondition(headSize % 2 == 0)
    let logarithm = PortableMath.log(theta)
    inverseFrequencies = (0..<headSize / 2).map { j in
      Float(PortableMath.exp(-(Double(2 * j) / Double(headSize)) * logarithm))
    }
  }

  /// Writes the `headSize / 2` cosines and sines of one position.
  public func fill(
    position: Int, cosines: UnsafeMutablePointer<Float>, sines: UnsafeMutablePointer<Float>
  ) {
    for (j, frequency) in inverseFrequencies.enumerated() {
      let angle = Float(position) * frequency
      let (sine, cosine) = PortableMath.sineAndCosine(Double(angle))
      cosines[j] = Float(cosine)
      sines[j] = Float(sine)
    }
  }

  /// Rotates one head: with h = size / 2, `x[j]` becomes `x[j] · cos[j] − x[j + h] · sin[j]` and
  /// `x[j + h]` becomes `x[j + h] · cos[j] + x[j] · sin[j]`, each product rounded. The specification of
  /// what kernels do.
  ///
  /// - Parameter output: may be the head.
  public static func rotate(
    _ head: UnsafePointer<Float>, size: Int, cosines: UnsafePointer<Float>,
    sines: UnsafePointer<Float>, output: UnsafeMutablePointer<Float>
  ) {
    let half = size / 2
    for j in 0..<half {
      let (a, b) = (head[j], head[j + half])
      output[j] = a * cosines[j] - b * sines[j]
      output[j + half] = b * cosines[j] + a * sines[j]
    }
  }
}
