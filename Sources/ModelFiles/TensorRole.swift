/// What a tensor does in the model, told from its published name.
public enum TensorRole: String, Sendable, CaseIterable {
  /// Rows of the vocabulary; also the output projection where the two are tied.
  case embedding
  /// Vectors of positions, which are added to those of tokens.
  case positions
  /// Projections of attention to queries, keys and values, which read the same input, apart or as one
  /// matrix.
  case query, key, value
  case queryKeyValue = "query-key-value"
  case attentionOutput = "attention-output"
  /// The two halves of a gated MLP, which read the same input, apart or as one matrix; of an MLP without
  /// a gate, up.
  case gate, up
  case gateUp = "gate-up"
  case down
  /// Projections into a Mamba2 layer (gate, features, B, C and time steps together) and out of it.
  case mambaInput = "mamba-in", mambaOutput = "mamba-out"
  /// What sends tokens to experts.
  case router
  /// The matrices of all experts, as of the MLP.
  case expertGateUp = "expert-gate-up"
  case expertDown = "expert-down"
  /// The output projection of a model whose embedding is not also that.
  case output
  case norm, bias
  /// The weights of a Mamba2 layer's convolution, few for each channel.
  case convolution
  /// Decay, skip and step bias of the heads of a Mamba2 layer.
  case stateSpace = "state-space"

  /// Whether tensors of this role are matrices; others are small and stay float32, without padding.
  public var isMatrix: Bool {
    switch self {
    case .norm, .bias, .convolution, .stateSpace: false
    default: true
    }
  }

  /// Whether tensors of this role hold a matrix for each expert.
  public var isOfExperts: Bool { self == .expertGateUp || self == .expertDown }

  /// Roles that recipes may name together.
  public static let groups: [(name: String, roles: [TensorRole])] = [
    ("attention", [.query, .key, .value, .queryKeyValue, .attentionOutput]),
    ("mlp", [.gate, .up, .gateUp, .down]),
    ("mamba", [.mambaInput, .mambaOutput]),
    ("experts", [.expertGateUp, .expertDown]),
  ]

  /// Roles of a layer's matrices that read the same input: it is quantized once for all of them where
  /// their blocks have the same size.
  public static let sharingInput: [[TensorRole]] = [[.query, .key, .value], [.gate, .up]]

  /// Nil for a name of no supported model.
  public init?(tensorName name: String) {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count > 1, let kind = parts.last else { return nil }
    let module = parts[parts.count - 2]
    let isExpert = parts.contains("block_sparse_moe")
    switch (module, kind) {
    case (_, "bias"): self = .bias
    case ("wte", "weight"): self = .embedding
    case ("wpe", "weight"): self = .positions
    case ("ln_1", "weight"), ("ln_2", "weight"), ("ln_f", "weight"): self = .norm
    case ("c_attn", "weight"): self = .queryKeyValue
    case ("c_fc", "weight"): self = .up
    case ("c_proj", "weight"):
      self = parts.dropLast(2).last == "attn" ? .attentionOutput : .down
    case ("mamba", "A_log"), ("mamba", "D"), ("mamba", "dt_bias"): self = .stateSpace
    case ("conv1d", "weight"): self = .convolution
    case ("in_proj", "weight"): self = .mambaInput
    case ("out_proj", "weight"): self = .mambaOutput
    case ("embed_tokens", "weight"): self = .embedding
    case ("lm_head", "weight"): self = .output
    case ("norm", "weight"), ("input_layernorm", "weight"), ("post_attention_layernorm", "weight"):
      self = .norm
    case ("q_proj", "weight"): self = .query
    case ("k_proj", "weight"): self = .key
    case ("v_proj", "weight"): self = .value
    case ("o_proj", "weight"): self = .attentionOutput
    case ("gate_proj", "weight"): self = .gate
    case ("up_proj", "weight"): self = .up
    case ("router", "weight") where isExpert: self = .router
    case ("layer", "weight") where isExpert: self = .router
    case ("input_linear", "weight"): self = isExpert ? .expertGateUp : .gateUp
    case ("output_linear", "weight"): self = isExpert ? .expertDown : .down
    case ("down_proj", "weight"): self = .down
    case ("experts", "gate_up_proj"): self = .expertGateUp
    case ("experts", "down_proj"): self = .expertDown
    default: return nil
    }
  }

  /// The role of a tensor of a GGUF file. Nil for a name of another kind of model.
  public init?(ggufName name: String) {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count > 1, let kind = parts.last else { return nil }
    let module = parts[parts.count - 2]
    switch (module, kind) {
    case (_, "ssm_a"), (_, "ssm_d"), ("ssm_dt", "bias"): self = .stateSpace
    case (_, "bias"): self = .bias
    case ("ssm_in", "weight"): self = .mambaInput
    case ("ssm_out", "weight"): self = .mambaOutput
    case ("ssm_conv1d", "weight"): self = .convolution
    case ("token_embd", "weight"): self = .embedding
    case ("position_embd", "weight"): self = .positions
    case ("output", "weight"): self = .output
    case ("attn_qkv", "weight"): self = .queryKeyValue
    case ("attn_q", "weight"): self = .query
    case ("attn_k", "weight"): self = .key
    case ("attn_v", "weight"): self = .value
    case ("attn_output", "weight"): self = .attentionOutput
    case ("ffn_gate", "weight"), ("ffn_gate_shexp", "weight"): self = .gate
    case ("ffn_up", "weight"), ("ffn_up_shexp", "weight"): self = .up
    case ("ffn_down", "weight"), ("ffn_down_shexp", "weight"): self = .down
    case ("ffn_gate_inp", "weight"): self = .router
    case ("ffn_gate_exps", "weight"), ("ffn_up_exps", "weight"), ("ffn_gate_up_exps", "weight"):
      self = .expertGateUp
    case ("ffn_down_exps", "weight"): self = .expertDown
    case (let module, "weight") where module.hasSuffix("_norm"): self = .norm
    default: return nil
    }
  }

  /// Number of the decoder layer that a tensor belongs to, from 0; nil for one outside the layers.
  public static func layer(ofTensor name: String) -> Int? {
    let parts = name.split(separator: ".", maxSplits: 3)
    guard parts.count == 4,
      parts[..<2] == ["model", "layers"] || parts[..<2] == ["transformer", "h"]
    else { return nil }
    return Int(parts[2])
  }

  /// The same for a tensor of a GGUF file.
  public static func layer(ofGGUFTensor name: String) -> Int? {
    let parts = name.split(separator: ".", maxSplits: 2)
    guard parts.count == 3, parts[0] == "blk", let layer = Int(parts[1]), layer >= 0 else {
      return nil
    }
    return layer
  }
}
