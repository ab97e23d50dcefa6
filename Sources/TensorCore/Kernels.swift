/// Instruction sets that kernels exist for, in order of preference.
public enum InstructionSet: String, Sendable, CaseIterable {
  case scalar, avx2, avx512vnni
}

/// How activations enter a product with quantized weights.
public enum ActivationPrecision: String, Sendable, CaseIterable {
  /// Quantized per token to int8 in groups of the weight's block size: fast.
  case int8
  /// Unquantized, times the dequantized weights: slow and exact, to tell the two errors apart.
  case f32
}

/// An activation was infinite or not a number, so the product would be meaningless.
public struct NonFiniteActivation: Error, Equatable, CustomStringConvertible {
  /// Row of the batch, from 0.
  public let token: Int

  public var description: String { "a non-finite activation at token \(token) of the batch" }
}

/// The inner loops, for one instruction set. All return the bits of ``Reference``.
public struct Kernels: Sendable {
  public let instructionSet: InstructionSet

  public init(_ instructionSet: InstructionSet) { self.instructionSet = instructionSet }

  /// Products of `weights` with every token of `activations`:
  /// `output[t · outputStride + n]` for all `paddedRows` rows n.
  ///
  /// - Precondition: `activations` were loaded for `weights`; `outputStride >= paddedRows`.
  public func multiply(
    _ weights: WeightMatrix, _ activations: Activations, output: UnsafeMutablePointer<Float>,
    outputStride: Int, pool: WorkerPool
  ) {
    let geometry = weights.geometry
    let output = SharedPointer(output)
    pool.parallelFor(geometry.panelCount) { panel in
      for token in 0..<activations.tokenCount {
        for row in panel * 16..<panel * 16 + 16 {
          output.pointer[token * outputStride + row] =
            if activations.isQuantized {
              Reference.multiply(
                weights, row: row, codes: activations.codes(of: token),
                scales: activations.scales(of: token))
            } else {
              Reference.multiply(weights, row: row, activations: activations.values(of: token))
            }
        }
      }
    }
  }

  /// See ``Reference/rmsNorm(_:weight:count:epsilon:output:)``.
  public func rmsNorm(
    _ input: UnsafePointer<Float>, weight: UnsafePointer<Float>, count: Int, epsilon: Float,
    output: UnsafeMutablePointer<Float>
  ) {
    Reference.rmsNorm(input, weight: weight, count: count, epsilon: epsilon, output: output)
  }

  /// See ``Reference/gatedSilu(gate:up:count:output:)``.
  public func gatedSilu(
    gate: UnsafePointer<Float>, up: UnsafePointer<Float>, count: Int,
    output: UnsafeMutablePointer<Float>
  ) {
    Reference.gatedSilu(gate: gate, up: up, count: count, output: output)
  }

  /// Attention of one query over `tiles`, in order of position; `output` receives `headSize`
  /// (padded) values. See ``Reference/attend(query:tile:headSize:scale:state:output:)``.
  public func attention(
    query: UnsafePointer<Float>, tiles: some Sequence<AttentionTile>, headSize: Int, scale: Float,
    output: UnsafeMutablePointer<Float>
  ) {
    var state: (maximum: Float, sum: Float) = (-.infinity, 0)
    for tile in tiles {
      Reference.attend(
        query: query, tile: tile, headSize: headSize, scale: scale, state: &state, output: output)
    }
    Reference.finishAttention(sum: state.sum, headSize: headSize, output: output)
  }
}

/// Lets the workers of one parallel region write disjoint ranges.
public struct SharedPointer<Element>: @unchecked Sendable {  // disjointness is the region's duty
  public let pointer: UnsafeMutablePointer<Element>

  public init(_ pointer: UnsafeMutablePointer<Element>) { self.pointer = pointer }
}
