/// Shapes of published models that can be benchmarked without their weights.
enum BenchmarkShape: String, CaseIterable {
  /// Of granite-3.3-2b-instruct.
  case twoBillion = "2b"
  /// Of granite-3.3-8b-instruct.
  case eightBillion = "8b"
  /// Of granite-3.1-1b-a400m-instruct and granite-3.1-3b-a800m-instruct, mixtures of experts.
  case expertsOneBillion = "1b-a400m"
  case expertsThreeBillion = "3b-a800m"
  /// Of granite-4.0-h-350m, h-1b and h-micro, whose layers are Mamba2 but for four, and of h-tiny, which
  /// has experts too.
  case hybrid350Million = "h-350m"
  case hybridOneBillion = "h-1b"
  case hybridMicro = "h-micro"
  case hybridTiny = "h-tiny"

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
      case .hybrid350Million:
        Self.hybrid(
          hidden: 768, layers: 32, attention: [10, 13, 17, 27], heads: 12, keyValueHeads: 4,
          intermediate: 2048, mambaHeads: 48, mambaHeadSize: 32, logitsScaling: 3)
      case .hybridOneBillion:
        Self.hybrid(
          hidden: 1536, heads: 12, keyValueHeads: 4, intermediate: 4096, mambaHeads: 48,
          logitsScaling: 6)
      case .hybridMicro:
        Self.hybrid(
          hidden: 2048, heads: 32, keyValueHeads: 8, intermediate: 8192, mambaHeads: 64,
          logitsScaling: 8)
      case .hybridTiny:
        Self.hybrid(
          hidden: 1536, heads: 12, keyValueHeads: 4, intermediate: 1024, mambaHeads: 48,
          logitsScaling: 6, experts: 64)
      }
    let isSmall = self == .hybrid350Million
    return """
      {\(own), "num_hidden_layers": \(layerCount),
      "max_position_embeddings": \(isSmall ? 32768 : 131072), "rms_norm_eps": 1e-05,
      "hidden_act": "silu", "tie_word_embeddings": true, "embedding_multiplier": 12.0,
      "residual_multiplier": \(isSmall ? 0.246 : 0.22), "eos_token_id": 0, "bos_token_id": 0,
      "pad_token_id": 0}
      """
  }

  private var layerCount: Int {
    switch self {
    case .expertsOneBillion: 24
    case .expertsThreeBillion, .hybrid350Million: 32
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

  /// Mamba2 layers but for those of `attention`, which have no positions.
  private static func hybrid(
    hidden: Int, layers: Int = 40, attention: Set<Int> = [5, 15, 25, 35], heads: Int,
    keyValueHeads: Int, intermediate: Int, mambaHeads: Int, mambaHeadSize: Int = 64,
    logitsScaling: Int, experts: Int = 0
  ) -> String {
    let types = (0..<layers).map { attention.contains($0) ? "\"attention\"" : "\"mamba\"" }
    return """
      "architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid",
      "hidden_size": \(hidden), "num_attention_heads": \(heads),
      "num_key_value_heads": \(keyValueHeads), "shared_intermediate_size": \(intermediate),
      "num_local_experts": \(experts), "num_experts_per_tok": 6, "intermediate_size": 512,
      "vocab_size": 100352, "attention_multiplier": \(Double(heads) / Double(hidden)),
      "logits_scaling": \(logitsScaling), "layer_types": [\(types.joined(separator: ", "))],
      "position_embedding_type": "nope", "mamba_n_heads": \(mambaHeads),
      "mamba_d_head": \(mambaHeadSize), "mamba_d_state": 128, "mamba_expand": 2,
      "mamba_n_groups": 1, "mamba_d_conv": 4, "mamba_conv_bias": true
      """
  }
}
