import JSON
import TensorCore

extension ModelConfiguration {
  /// Reads a config.json in the published dialect (`torch_dtype`, `rope_theta`, layer types
  /// "attention") or in that of transformers 5 (`dtype`, `rope_parameters`, "full_attention").
  ///
  /// Missing fields mean what they mean to the published model code (transformers); fields that
  /// would change the arithmetic in a way that is not implemented are refused by name.
  public init(json: [UInt8]) throws(ConfigurationError) {
    let fields = try ConfigurationFields(json: json)
    let architecture = try Self.architecture(fields)
    try Self.refuseUnsupported(fields, architecture)
    switch architecture {
    case .gptBigCode: try self.init(bigCode: fields)
    default: try self.init(fields, architecture)
    }
  }

  /// The dialect that all but GPT BigCode share.
  private init(
    _ fields: ConfigurationFields, _ architecture: Architecture
  ) throws(ConfigurationError) {
    self.architecture = architecture

    let dimension = 1...1 << 22
    hiddenSize = try fields.require("hidden_size", fields.integer("hidden_size", in: dimension))
    layerKinds = try Self.layerKinds(fields, architecture)
    mamba =
      layerKinds.contains(.mamba) ? try Self.mambaShape(fields, hiddenSize: hiddenSize) : nil
    headCount = try fields.require(
      "num_attention_heads", fields.integer("num_attention_heads", in: 1...1 << 14))
    keyValueHeadCount =
      try fields.integer("num_key_value_heads", in: 1...1 << 14) ?? headCount
    experts =
      architecture.mayHaveExperts
      ? try ExpertConfiguration(fields, isOptional: architecture == .graniteHybrid) : nil
    switch architecture {
    case .graniteMoe: intermediateSize = 0
    case .graniteMoeShared:
      intermediateSize = try fields.integer("shared_intermediate_size", in: 0...1 << 22) ?? 0
    default:
      let key =
        architecture == .graniteHybrid ? "shared_intermediate_size" : "intermediate_size"
      intermediateSize = try fields.require(key, fields.integer(key, in: dimension))
    }
    vocabularySize = try fields.require(
      "vocab_size", fields.integer("vocab_size", in: 1...1 << 24))
    contextLength = try fields.require(
      "max_position_embeddings", fields.integer("max_position_embeddings", in: 1...1 << 26))
    usesRotaryPositions = try Self.usesRotaryPositions(fields, architecture)
    headSize = try Self.headSize(
      fields, hiddenSize: hiddenSize, headCount: headCount, rotary: usesRotaryPositions)
    guard headCount % keyValueHeadCount == 0 else {
      throw .invalid(
        field: "num_key_value_heads", expected: "a divisor of num_attention_heads (\(headCount))",
        found: "\(keyValueHeadCount)")
    }

    ropeTheta = try Self.ropeTheta(fields)
    normEpsilon = try Self.normEpsilon(fields, "rms_norm_eps", default: 1e-6)
    attentionBias = try fields.bool("attention_bias") ?? false
    mlpBias = try fields.bool("mlp_bias") ?? false
    tiedEmbeddings = try fields.bool("tie_word_embeddings") ?? false
    hasFusedMLP = architecture.mayHaveExperts

    embeddingMultiplier = try fields.multiplier("embedding_multiplier") ?? 1
    residualMultiplier = try fields.multiplier("residual_multiplier") ?? 1
    logitsScaling = try fields.multiplier("logits_scaling") ?? 1
    attentionMultiplier =
      try fields.multiplier("attention_multiplier")
      ?? (architecture == .llama ? Float(1 / Double(headSize).squareRoot()) : 1)

    eosTokenIDs = try fields.tokenIDs("eos_token_id", vocabularySize: vocabularySize)
    bosTokenID = try fields.tokenID("bos_token_id", vocabularySize: vocabularySize)
    padTokenID = try fields.tokenID("pad_token_id", vocabularySize: vocabularySize)
    sourceType = try Self.sourceType(fields)
  }

  // MARK: - Which model this is

  private static let supportedModels =
    "GraniteForCausalLM, LlamaForCausalLM, GPTBigCodeForCausalLM, GraniteMoeForCausalLM,"
    + " GraniteMoeSharedForCausalLM and GraniteMoeHybridForCausalLM"

  /// `model_type` decides, as in the published model code, and `architectures` must not contradict
  /// it with something that is not run.
  private static func architecture(
    _ fields: ConfigurationFields
  ) throws(ConfigurationError) -> Architecture {
    let names = try fields.strings("architectures") ?? []
    let type = try fields.string("model_type")
    for name in names where Architecture(rawValue: name) == nil {
      throw .unsupported(field: "architectures", found: name.shown, supported: supportedModels)
    }
    switch type {
    case "granite": return .granite
    case "llama": return .llama
    case "granitemoe": return .graniteMoe
    case "granitemoeshared": return .graniteMoeShared
    case "granitemoehybrid": return .graniteHybrid
    case "gpt_bigcode": return .gptBigCode
    case let type?:
      throw .unsupported(field: "model_type", found: type.shown, supported: supportedModels)
    case nil: break
    }
    guard names.count == 1, let architecture = Architecture(rawValue: names[0]) else {
      throw .missing(field: "model_type")
    }
    return architecture
  }

  /// Refuses whatever would change the arithmetic.
  private static func refuseUnsupported(
    _ fields: ConfigurationFields, _ architecture: Architecture
  ) throws(ConfigurationError) {
    for key in ["text_config", "vision_config", "encoder_config"] {
      try fields.accept(key, only: [], supported: "text models only")
    }
    for key in ["quantization_config", "compression_config"] {
      try fields.accept(
        key, only: [], supported: "unquantized checkpoints (bfloat16, float16, float32)")
    }
    let silu: [JSONValue] = [.string("silu"), .string("swish")]
    try fields.accept("hidden_act", only: silu, supported: "\"silu\"")
    try fields.accept("rope_scaling", only: [], supported: "null")
    try fields.accept(
      "normalization_function", only: [.string("rmsnorm")], supported: "\"rmsnorm\"")
    if fields["use_sliding_window"] != .bool(false) {
      try fields.accept("sliding_window", only: [], supported: "null (attention to all positions)")
    }
    let one: [JSONValue] = [.integer(1), .double(1)]
    try fields.accept("partial_rotary_factor", only: one, supported: "1")
    for key in ["attn_logit_softcapping", "final_logit_softcapping", "no_rope_layers"] {
      try fields.accept(key, only: [], supported: "null")
    }
    let zero: [JSONValue] = [.integer(0), .double(0)]
    for key in ["num_local_experts", "num_experts", "n_routed_experts"]
    where key != "num_local_experts" || !architecture.mayHaveExperts {
      try fields.accept(key, only: zero, supported: "0 (no mixture of experts)")
    }
    if architecture.mayHaveExperts {
      try fields.accept("mlp_bias", only: [.bool(false)], supported: "false")
    }
  }

  // MARK: - Single fields

  private static func headSize(
    _ fields: ConfigurationFields, hiddenSize: Int, headCount: Int, rotary: Bool
  ) throws(ConfigurationError) -> Int {
    let size: Int
    if let given = try fields.integer("head_dim", in: 1...1 << 14) {
      size = given
    } else {
      guard hiddenSize % headCount == 0, hiddenSize / headCount <= 1 << 14 else {
        throw .invalid(
          field: "num_attention_heads",
          expected: "a divisor of hidden_size (\(hiddenSize)) with heads of at most \(1 << 14)",
          found: "\(headCount)")
      }
      size = hiddenSize / headCount
    }
    guard !rotary || size % 2 == 0 else {
      throw .invalid(
        field: "head_dim", expected: "an even number, for rotary positions", found: "\(size)")
    }
    guard headCount * size <= 1 << 22 else {
      throw .invalid(
        field: "num_attention_heads", expected: "at most \(1 << 22) features in all heads",
        found: "\(headCount * size)")
    }
    return size
  }

  /// Only the hybrids have the choice; without the field their published code builds no rotation.
  private static func usesRotaryPositions(
    _ fields: ConfigurationFields, _ architecture: Architecture
  ) throws(ConfigurationError) -> Bool {
    guard architecture == .graniteHybrid else {
      try fields.accept(
        "position_embedding_type", only: [.string("rope")], supported: "\"rope\"")
      return true
    }
    try fields.accept(
      "position_embedding_type", only: [.string("rope"), .string("nope")],
      supported: "\"rope\" or \"nope\"")
    return fields["position_embedding_type"] == .string("rope")
  }

  private static func ropeTheta(_ fields: ConfigurationFields) throws(ConfigurationError) -> Double
  {
    func theta(_ fields: ConfigurationFields) throws(ConfigurationError) -> Double? {
      try fields.number("rope_theta", "a number from 1 to 1e15") { 1 <= $0 && $0 <= 1e15 }
    }
    let published = try theta(fields)
    guard let value = fields["rope_parameters"] else { return published ?? 10_000 }
    guard let object = value.object else {
      throw .invalid(field: "rope_parameters", expected: "an object", found: value.shown)
    }
    let parameters = ConfigurationFields(object, prefix: "rope_parameters.")
    for key in ["rope_type", "type"] {
      try parameters.accept(key, only: [.string("default")], supported: "\"default\"")
    }
    for member in object.members
    where !["rope_theta", "rope_type", "type", "partial_rotary_factor"].contains(member.key) {
      try parameters.accept(member.key, only: [], supported: "rope_theta and rope_type")
    }
    try parameters.accept(
      "partial_rotary_factor", only: [.integer(1), .double(1)], supported: "1")
    let new = try parameters.require("rope_theta", theta(parameters) ?? published)
    guard published == nil || published == new else {
      throw parameters.invalid(
        "rope_theta", expected: "the value of rope_theta (\(published!))", found: "\(new)")
    }
    return new
  }

  static func normEpsilon(
    _ fields: ConfigurationFields, _ key: String, default missing: Float
  ) throws(ConfigurationError) -> Float {
    let value = try fields.number(key, "a number above 0 and at most 1") {
      Float($0) > 0 && $0 <= 1
    }
    return value.map { Float($0) } ?? missing
  }

  static func sourceType(
    _ fields: ConfigurationFields
  ) throws(ConfigurationError) -> ElementType? {
    for key in ["dtype", "torch_dtype"] {
      guard let name = try fields.string(key) else { continue }
      switch name {
      case "bfloat16", "torch.bfloat16": return .bf16
      case "float16", "torch.float16": return .f16
      case "float32", "torch.float32": return .f32
      default:
        throw .unsupported(
          field: key, found: "\"\(name.shown)\"", supported: "bfloat16, float16, float32")
      }
    }
    return nil
  }
}

extension ModelConfiguration.Architecture {
  /// Whether layers may have experts; their MLP is then one that all tokens share.
  fileprivate var mayHaveExperts: Bool {
    self == .graniteMoe || self == .graniteMoeShared || self == .graniteHybrid
  }
}
