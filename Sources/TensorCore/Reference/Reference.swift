/// The normative arithmetic (`formats/numerics.md`), written for clarity: every kernel on every
/// instruction set returns exactly these bits.
///
/// `addingProduct` is a fused multiply-add; it stands where, and only where, the specification says
/// fma. Everything else rounds after each operation.
public enum Reference {
  /// Version of the arithmetic; a change of any result's bits is a new version.
  public static let numericsVersion = 1
}

extension Reference {
  /// e^x for float32: 0 below −87, the value at 88 above 88, NaN for NaN. Relative error below 2e-7.
  ///
  /// Range reduction by ln 2 in two parts (Cody and Waite, 1980), Taylor polynomial of degree 7 on
  /// |r| ≤ ln 2 / 2.
  public static func exp(_ x: Float) -> Float {
    if x.isNaN { return .nan }  // damaged weights reach this point; nothing may trap on them
    if x < -87 { return 0 }
    let x = min(x, 88)
    let n = (x * 0x1.715476p+0).rounded(.toNearestOrEven)
    var r = x.addingProduct(n, -0x1.63p-1)
    r = r.addingProduct(n, 0x1.bd0106p-13)
    var p: Float = 0x1.a01a02p-13
    let coefficients: [Float] = [
      0x1.6c16c2p-10, 0x1.111112p-7, 0x1.555556p-5, 0x1.555556p-3, 0.5, 1, 1,
    ]
    for coefficient in coefficients { p = coefficient.addingProduct(p, r) }
    return p * Float(bitPattern: UInt32(Int32(n) + 127) << 23)
  }

  /// x / (1 + e^−x)
  public static func silu(_ x: Float) -> Float { x / (1 + exp(-x)) }

  /// silu(gate) · up, elementwise.
  public static func gatedSilu(
    gate: UnsafePointer<Float>, up: UnsafePointer<Float>, count: Int,
    output: UnsafeMutablePointer<Float>
  ) {
    for index in 0..<count { output[index] = silu(gate[index]) * up[index] }
  }

  /// Sum of sixteen lanes: halves are added to each other until one is left.
  public static func sum(lanes: [Float]) -> Float {
    var lanes = lanes
    for width in [8, 4, 2, 1] {
      for lane in 0..<width { lanes[lane] += lanes[lane + width] }
    }
    return lanes[0]
  }

  /// Root mean square norm: `output[i] = input[i] · (1 / √(mean(input²) + epsilon)) · weight[i]`.
  ///
  /// Element i adds to lane i mod 16 by fma; `output` may be `input`.
  public static func rmsNorm(
    _ input: UnsafePointer<Float>, weight: UnsafePointer<Float>, count: Int, epsilon: Float,
    output: UnsafeMutablePointer<Float>
  ) {
    var lanes = [Float](repeating: 0, count: 16)
    for index in 0..<count {
      lanes[index % 16] = lanes[index % 16].addingProduct(input[index], input[index])
    }
    let inverse = 1 / (sum(lanes: lanes) / Float(count) + epsilon).squareRoot()
    for index in 0..<count { output[index] = input[index] * inverse * weight[index] }
  }

  /// Layer norm (Ba, Kiros and Hinton, 2016): with d = input − mean,
  /// `output[i] = d[i] · (1 / √(mean(d²) + epsilon)) · weight[i] + bias[i]`.
  ///
  /// Elements and squares add to lanes as in ``rmsNorm(_:weight:count:epsilon:output:)``; `output` may be
  /// `input`.
  public static func layerNorm(
    _ input: UnsafePointer<Float>, weight: UnsafePointer<Float>, bias: UnsafePointer<Float>,
    count: Int, epsilon: Float, output: UnsafeMutablePointer<Float>
  ) {
    var lanes = [Float](repeating: 0, count: 16)
    for index in 0..<count { lanes[index % 16] += input[index] }
    let mean = sum(lanes: lanes) / Float(count)
    lanes = [Float](repeating: 0, count: 16)
    for index in 0..<count {
      let distance = input[index] - mean
      lanes[index % 16] = lanes[index % 16].addingProduct(distance, distance)
    }
    let inverse = 1 / (sum(lanes: lanes) / Float(count) + epsilon).squareRoot()
    for index in 0..<count {
      output[index] = (input[index] - mean) * inverse * weight[index] + bias[index]
    }
  }

  /// GELU in its form with tanh (Hendrycks and Gimpel, 2016), ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))),
  /// as x / (1 + e^−2u), u being what the hyperbolic tangent is taken of; `output` may be `input`.
  public static func gelu(
    _ input: UnsafePointer<Float>, count: Int, output: UnsafeMutablePointer<Float>
  ) {
    for index in 0..<count {
      let x = input[index]
      // −2 √(2/π), and that times 0.044715.
      let factor = Float(-0x1.988454p+0).addingProduct(x * x, -0x1.2444f2p-4)
      output[index] = x / (1 + exp(x * factor))
    }
  }
}
