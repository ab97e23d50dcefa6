/// Mamba2 (Dao and Gu, "Transformers are SSMs", 2024), as its published model code computes it token by
/// token.
extension Reference {
  /// The time step of a head, softplus(`raw` + `bias`), where softplus(x) = log(1 + e^x).
  ///
  /// In double, rounded at the end. Above 20 softplus is the identity, below −18 it is e^x, either more
  /// exactly than float32 tells.
  static func timeStep(_ raw: Float, bias: Float) -> Float {
    let x = Double(raw + bias)
    if x > 20 { return raw + bias }
    let power = PortableMath.exp(x)
    return Float(x < -18 ? power : PortableMath.log(1 + power))
  }

  /// What a state keeps over a time step: e^(`step` · `rate`), in double, rounded at the end.
  static func decay(step: Float, rate: Float) -> Float {
    Float(PortableMath.exp(Double(step * rate)))
  }

  /// The time steps of a head at consecutive tokens, and what its state keeps over each.
  ///
  /// - Parameters:
  ///   - raw: of token t at `t · stride`.
  ///   - rate: at most 0.
  public static func timeSteps(
    _ raw: UnsafePointer<Float>, stride: Int, bias: Float, rate: Float, count: Int,
    steps: UnsafeMutablePointer<Float>, decays: UnsafeMutablePointer<Float>
  ) {
    for token in 0..<count {
      steps[token] = timeStep(raw[token * stride], bias: bias)
      decays[token] = decay(step: steps[token], rate: rate)
    }
  }

  /// A causal convolution of each channel by itself, then silu: from `bias`, taps are added by fma, the
  /// oldest first.
  ///
  /// - Parameters:
  ///   - rows: a row of `count` channels for each tap, the oldest first.
  ///   - weights: of tap j and channel c at `j · weightStride + c`.
  public static func convolve(
    _ rows: [UnsafePointer<Float>], weights: UnsafePointer<Float>, weightStride: Int,
    bias: UnsafePointer<Float>, count: Int, output: UnsafeMutablePointer<Float>
  ) {
    for channel in 0..<count {
      var sum = bias[channel]
      for (tap, row) in rows.enumerated() {
        sum = sum.addingProduct(weights[tap * weightStride + channel], row[channel])
      }
      output[channel] = silu(sum)
    }
  }

  /// Takes the state of one head through consecutive tokens. For every token, with u = input · step and
  /// elements n of the state ascending,
  ///
  ///     state[n] = fma(u, B[n], state[n] · decay)
  ///     output   = fma(state[n], C[n], output), from 0
  ///
  /// and at last output = fma(skip, input, output), for each feature of the head by itself.
  public static func scan(_ head: StateSpaceScan) {
    for token in 0..<head.tokenCount {
      let (input, written) = (head.inputs + token * head.stride, head.written + token * head.stride)
      let (read, output) = (
        head.read + token * head.stride, head.outputs + token * head.outputStride
      )
      for feature in 0..<head.headSize {
        let scaled = input[feature] * head.steps[token]
        var sum: Float = 0
        for element in 0..<head.stateSize {
          let place = head.state + element * StateSpaceScan.padded(head.headSize) + feature
          place.pointee = (place.pointee * head.decays[token]).addingProduct(
            scaled, written[element])
          sum = sum.addingProduct(place.pointee, read[element])
        }
        output[feature] = sum.addingProduct(head.skip, input[feature])
      }
    }
  }
}

/// The tokens and the state of one head of a Mamba2 layer, for ``Kernels/scan(_:)``.
public struct StateSpaceScan {
  /// Element n of feature d at `n · padded(headSize) + d`.
  let state: UnsafeMutablePointer<Float>
  let stateSize: Int
  let headSize: Int
  /// Of the first token; those of the next follow after `stride`, as for `written` and `read`.
  let inputs: UnsafePointer<Float>
  /// B of the head's group.
  let written: UnsafePointer<Float>
  /// C of the head's group.
  let read: UnsafePointer<Float>
  let stride: Int
  /// A time step and a decay for each token.
  let steps: UnsafePointer<Float>
  let decays: UnsafePointer<Float>
  /// Weight of the input in the output.
  let skip: Float
  /// Must not overlap with what is read.
  let outputs: UnsafeMutablePointer<Float>
  let outputStride: Int
  let tokenCount: Int

  /// - Parameters:
  ///   - state: `stateSize · padded(headSize)` values; its padding may hold anything.
  ///   - inputs: `headSize` features of each token.
  ///   - written: `stateSize` values of B for each token.
  ///   - read: `stateSize` values of C for each token.
  ///   - stride: floats from one token's inputs, B and C to the next token's.
  ///   - skip: D.
  public init(
    state: UnsafeMutablePointer<Float>, stateSize: Int, headSize: Int, inputs: UnsafePointer<Float>,
    written: UnsafePointer<Float>, read: UnsafePointer<Float>, stride: Int,
    steps: UnsafePointer<Float>, decays: UnsafePointer<Float>, skip: Float,
    outputs: UnsafeMutablePointer<Float>, outputStride: Int, tokenCount: Int
  ) {
    self.state = state
    self.stateSize = stateSize
    self.headSize = headSize
    self.inputs = inputs
    self.written = written
    self.read = read
    self.stride = stride
    self.steps = steps
    self.decays = decays
    self.skip = skip
    self.outputs = outputs
    self.outputStride = outputStride
    self.tokenCount = tokenCount
  }

  /// Features of a head as a state holds them: whole groups of sixteen lanes.
  public static func padded(_ headSize: Int) -> Int { (headSize + 15) / 16 * 16 }
}
