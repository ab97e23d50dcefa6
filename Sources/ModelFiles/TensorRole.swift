/// What a tensor does in the model, told from its published name.
public enum TensorRole: String, Sendable, CaseIterable {
  /// Rows of the vocabulary; also the output projection where the two are tied.
  case embedding
  /// Projections of attention to queries, keys and values, which read the same input.
  case query, key, value
  case attentionOutput = "attention-output"
  /// The two halves of a gated MLP, which read the same input, apart or as one matrix.
  case gate, up
  case gateUp = "gate-up"
  case down
  /// The output projection of a model whose embedding is not also that.
  case output
  case norm, bias

  /// Whether tensors of this role are matrices; others are one-dimensional and stay float32.
  public var isMatrix: Bool { self != .norm && self != .bias }

  /// Roles that recipes may name together.
  public static let groups: [(name: String, roles: [TensorRole])] = [
    ("attention", [.query, .key, .value, .attentionOutput]),
    ("mlp", [.gate, .up, .gateUp, .down]),
  ]

  /// Roles of a layer's matrices that read the same input: it is quantized once for all of them where
  /// their blocks have the same size.
  public static let sharingInput: [[TensorRole]] = [[.query, .key, .value], [.gate, .up]]

  /// Nil for a name of no supported model.
  public init?(tensorName name: String) {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count > 1, let kind = parts.last else { return nil }
    let module = parts[parts.count - 2]
    switch (module, kind) {
    case (_, "bias"): self = .bias
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
    case ("input_linear", "weight"): self = .gateUp
    case ("down_proj", "weight"), ("output_linear", "weight"): self = .down
    default: return nil
    }
  }

  /// The role of a tensor of a GGUF file. Nil for a name of another kind of model.
  public init?(ggufName name: String) {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count > 1, let kind = parts.last else { return nil }
    let module = parts[parts.count - 2]
    switch (module, kind) {
    case (_, "bias"): self = .bias
    case ("token_embd", "weight"): self = .embedding
    case ("output", "weight"): self = .output
    case ("attn_q", "weight"): self = .query
    case ("attn_k", "weight"): self = .key
    case ("attn_v", "weight"): self = .value
    case ("attn_output", "weight"): self = .attentionOutput
    case ("ffn_gate", "weight"): self = .gate
    case ("ffn_up", "weight"): self = .up
    case ("ffn_down", "weight"): self = .down
    case (let module, "weight") where module.hasSuffix("_norm"): self = .norm
    default: return nil
    }
  }

  /// Number of the decoder layer that a tensor belongs to, from 0; nil for one outside the layers.
  public static func layer(ofTensor name: String) -> Int? {
    let parts = name.split(separator: ".", maxSplits: 3)
    guard parts.count == 4, parts[0] == "model", parts[1] == "layers" else { return nil }
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
