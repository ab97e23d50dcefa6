/// The sizes of a Mamba2 layer (Dao and Gu, "Transformers are SSMs", 2024).
public struct MambaShape: Sendable, Equatable {
  public var headCount: Int
  /// Features of one head.
  public var headSize: Int
  /// Values that the state holds for each feature of a head.
  public var stateSize: Int
  /// Groups of heads that share what they write to the state and read from it; divides ``headCount``.
  public var groupCount: Int
  /// Tokens that the convolution spans.
  public var convolutionSize: Int
  public var hasConvolutionBias: Bool

  /// Features of all heads.
  public var innerSize: Int { headCount * headSize }
  /// Features that pass the convolution: those of all heads, then B and C of all groups.
  public var channelCount: Int { innerSize + 2 * groupCount * stateSize }
  /// Rows of the input projection: gate, what passes the convolution, and a time step for each head.
  public var projectionSize: Int { innerSize + channelCount + headCount }

  /// The tensors of one layer, without their prefix.
  func expectedTensors(hiddenSize: Int) -> [ModelConfiguration.ExpectedTensor] {
    var tensors: [ModelConfiguration.ExpectedTensor] = [
      ("mamba.in_proj.weight", [projectionSize, hiddenSize]),
      ("mamba.conv1d.weight", [channelCount, 1, convolutionSize]),
    ]
    if hasConvolutionBias { tensors.append(("mamba.conv1d.bias", [channelCount])) }
    return tensors + [
      ("mamba.A_log", [headCount]), ("mamba.D", [headCount]), ("mamba.dt_bias", [headCount]),
      ("mamba.norm.weight", [innerSize]),
      ("mamba.out_proj.weight", [hiddenSize, innerSize]),
    ]
  }
}
