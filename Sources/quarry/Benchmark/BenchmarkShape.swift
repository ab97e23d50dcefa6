/// Shapes of published models that can be benchmarked without their weights.
enum BenchmarkShape: String, CaseIterable {
  /// Of granite-3.3-2b-instruct.
  case twoBillion = "2b"
  /// Of granite-3.3-8b-instruct.
  case eightBillion = "8b"
  /// Of granite-3.1-1b-a400m-instruct and granite-3.1-3b-a800m-instruct, mixtures of experts.
  case expertsOneBillion = "1b-a400m"
  case expertsThreeBillion = "3b-a800m"
  /// Of granite-4.0-h-1b.
  case hybridOneBillion = "h-1b"

  /// What the shapes differ in, then what they have in common.
  var configurationJSON: String {
    let own =
      switch self {
      case .twoBillion:
        """
        "architectures": ["GraniteForCausalLM"], "model_type": "granite", "hidden_size": 2048,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 8192,
        "vocab_size": 49155, "rope_theta": 10000000.0, "attention_multiplier": 0.015625,
        "logits_scaling": 8.0
        """
      case .eightBillion:
        """
        "architectures": ["GraniteForCausalLM"], "model_type": "granite", "hidden_size": 4096,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 12800,
        "vocab_size": 49159, "rope_theta": 10000000.0, "attention_multiplier": 0.0078125,
        "logits_scaling": 16.0
        """
      case .expertsOneBillion: Self.experts(32, hidden: 1024, heads: 16)
      case .expertsThreeBillion: Self.experts(40, hidden: 1536, heads: 24)
      case .hybridOneBillion:
        """
        "architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid",
        "hidden_size": 1536, "num_attention_heads": 12, "num_key_value_heads": 4,
        "shared_intermediate_size": 4096, "num_local_experts": 0, "vocab_size": 100352,
        "attention_multiplier": 0.0078125, "logits_scaling": 6.0, \(Self.hybrid(heads: 48))
        """
      }
    return """
      {\(own), "num_hidden_layers": \(layerCount), "max_position_embeddings": 131072, "rms_norm_eps": 1e-05,
      "hidden_act": "silu", "tie_word_embeddings": true, "embedding_multiplier": 12.0,
      "residual_multiplier": 0.22, "eos_token_id": 0, "bos_token_id": 0, "pad_token_id": 0}
      """
  }

  private var layerCount: Int {
    switch self {
    case .expertsOneBillion: 24
    case .expertsThreeBillion: 32
    default: 40
    }
  }

  private static func experts(_ count: Int, hidden: Int, heads: Int) -> String {
    """
    "architectures": ["GraniteMoeForCausalLM"], "model_type": "granitemoe",
    "hidden_size": \(hidden), "num_attention_heads": \(heads), "num_key_value_heads": 8,
    "intermediate_size": 512, "num_local_experts": \(count), "num_experts_per_tok": 8,
    "vocab_size": 49155, "rope_theta": 1500000.0, "attention_multiplier": 0.015625,
    "logits_scaling": 6.0
    """
  }

  /// Four of forty layers have attention, without positions.
  private static func hybrid(heads: Int) -> String {
    let types = (0..<40).map { $0 % 10 == 5 ? "\"attention\"" : "\"mamba\"" }
    return """
      "layer_types": [\(types.joined(separator: ", "))], "position_embedding_type": "nope",
      "mamba_n_heads": \(heads), "mamba_d_head": 64, "mamba_d_state": 128, "mamba_expand": 2,
      "mamba_n_groups": 1, "mamba_d_conv": 4, "mamba_conv_bias": true
      """
  }
}
