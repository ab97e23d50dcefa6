public import TensorCore

/// Which encoding each tensor gets. One-dimensional tensors stay float32 in every recipe.
public enum Recipe: String, Sendable, CaseIterable {
  /// 4-bit blocks of 16; embedding and output in 8-bit blocks of 16.
  case q4
  /// 4-bit blocks of 32; embedding and output in 8-bit blocks of 32. Smaller, less faithful.
  case q4s
  /// 8-bit blocks of 16.
  case q8
  /// 8-bit blocks of 32.
  case q8s
  /// bfloat16; exact for a bfloat16 checkpoint, rounded to the nearest (ties to even) for others.
  case bf16
  /// float32; exact for every checkpoint.
  case f32

  /// The encoding of a tensor of that role; nil for tensors that stay plain float32.
  public func encoding(for role: TensorRole) -> BlockEncoding? {
    switch role {
    case .norm, .bias: nil
    case .attention, .mlp: layers
    case .embedding, .output: ends
    }
  }

  private var layers: BlockEncoding {
    switch self {
    case .q4: .q4b16
    case .q4s: .q4b32
    case .q8: .q8b16
    case .q8s: .q8b32
    case .bf16: .bf16
    case .f32: .f32
    }
  }

  /// Embedding and output projection: every token's error passes through them.
  private var ends: BlockEncoding {
    switch self {
    case .q4: .q8b16
    case .q4s: .q8b32
    default: layers
    }
  }
}

/// What a tensor does in the model, told from its published name.
public enum TensorRole: String, Sendable, CaseIterable {
  case embedding, attention, mlp, output, norm, bias

  /// Nil for a name of no supported model.
  public init?(tensorName name: String) {
    let parts = name.split(separator: ".")
    guard let last = parts.last else { return nil }
    let module = parts.dropLast().last ?? ""
    switch (module, last) {
    case (_, "bias"): self = .bias
    case ("embed_tokens", "weight"): self = .embedding
    case ("lm_head", "weight"): self = .output
    case ("norm", "weight"), ("input_layernorm", "weight"), ("post_attention_layernorm", "weight"):
      self = .norm
    case (_, "weight") where parts.contains("self_attn"): self = .attention
    case (_, "weight") where parts.contains("mlp") || parts.contains("shared_mlp"): self = .mlp
    default: return nil
    }
  }
}
