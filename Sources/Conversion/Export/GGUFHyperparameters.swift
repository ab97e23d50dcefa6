import ModelFiles

extension GGUFExport {
  /// What llama.cpp must know to run a model.
  static func hyperparameters(
    _ configuration: ModelConfiguration, name: String, _ type: RowEncoding
  ) -> [(key: String, value: GGUFMetadata)] {
    let architecture = architecture(configuration)
    var metadata: [(key: String, value: GGUFMetadata)] = [
      ("general.architecture", .string(architecture)), ("general.type", .string("model")),
      ("general.name", .string(name)), ("general.file_type", .uint32(type.ggufFileType)),
      ("general.quantization_version", .uint32(2)),
    ]
    func add(_ key: String, _ value: GGUFMetadata) {
      metadata.append((architecture + "." + key, value))
    }
    func add(_ key: String, _ value: Int) { add(key, .uint32(UInt32(value))) }
    add("vocab_size", configuration.vocabularySize)
    add("context_length", configuration.contextLength)
    add("embedding_length", configuration.hiddenSize)
    add("block_count", configuration.layerCount)
    add("attention.head_count", configuration.headCount)
    if let mamba = configuration.mamba {
      // Layers without KV heads are those with a state.
      add(
        "attention.head_count_kv",
        .int32s(
          configuration.layerKinds.map {
            $0 == .attention ? Int32(configuration.keyValueHeadCount) : 0
          }))
      add("ssm.conv_kernel", mamba.convolutionSize)
      add("ssm.inner_size", mamba.innerSize)
      add("ssm.state_size", mamba.stateSize)
      add("ssm.time_step_rank", mamba.headCount)
      add("ssm.group_count", mamba.groupCount)
    } else {
      add("attention.head_count_kv", configuration.keyValueHeadCount)
    }
    add("attention.key_length", configuration.headSize)
    add("attention.value_length", configuration.headSize)
    if let experts = configuration.experts {
      add("feed_forward_length", experts.intermediateSize)
      add("expert_count", experts.count)
      add("expert_used_count", experts.usedCount)
      add("expert_feed_forward_length", experts.intermediateSize)
      if configuration.intermediateSize > 0 {
        add("expert_shared_feed_forward_length", configuration.intermediateSize)
      }
    } else {
      add("feed_forward_length", configuration.intermediateSize)
    }
    if architecture == "starcoder" {
      add("attention.layer_norm_epsilon", .float32(configuration.normEpsilon))
      return metadata
    }
    add("attention.layer_norm_rms_epsilon", .float32(configuration.normEpsilon))
    add("rope.dimension_count", configuration.headSize)
    add("rope.freq_base", .float32(Float(configuration.ropeTheta)))
    if architecture != "llama" {
      add("embedding_scale", .float32(configuration.embeddingMultiplier))
      add("residual_scale", .float32(configuration.residualMultiplier))
      add("attention.scale", .float32(configuration.attentionMultiplier))
      add("logit_scale", .float32(configuration.logitsScaling))
      // llama.cpp's switch for Granite's attention without positions.
      if !configuration.usesRotaryPositions { add("rope.scaling.finetuned", .bool(false)) }
    }
    return metadata
  }

  /// What llama.cpp calls such a model.
  private static func architecture(_ configuration: ModelConfiguration) -> String {
    if configuration.architecture == .gptBigCode { return "starcoder" }
    if configuration.mamba != nil { return "granitehybrid" }
    // Its "granitemoe" rotates always; its "granite" takes experts too, and rotates where it is told.
    if configuration.experts != nil && configuration.usesRotaryPositions { return "granitemoe" }
    // A Llama without multipliers is what its "llama" computes; its "granite" is the same block with
    // them, and with heads of any number of features.
    let isPlain =
      configuration.architecture == .llama && configuration.embeddingMultiplier == 1
      && configuration.residualMultiplier == 1 && configuration.logitsScaling == 1
      && configuration.attentionMultiplier
        == Float(1 / Double(configuration.headSize).squareRoot())
    return isPlain ? "llama" : "granite"
  }
}
