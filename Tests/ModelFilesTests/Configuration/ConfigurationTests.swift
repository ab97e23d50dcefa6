import Foundation
import JSON
import ModelFiles
import TensorCore
import TestSupport
import Testing

/// Variations of one published configuration: members replaced, added, or (with null) removed.
@Suite struct ConfigurationTests {
  static let granite = """
    {"architectures": ["GraniteForCausalLM"], "model_type": "granite", "attention_bias": false,
     "attention_multiplier": 0.015625, "bos_token_id": 0, "embedding_multiplier": 12.0,
     "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 8192,
     "logits_scaling": 8.0, "max_position_embeddings": 4096, "mlp_bias": false,
     "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 8,
     "pad_token_id": 0, "residual_multiplier": 0.22, "rms_norm_eps": 1e-05, "rope_scaling": null,
     "rope_theta": 10000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
     "vocab_size": 49155}
    """

  static func changed(_ changes: String) throws -> [UInt8] {
    var object = try #require(JSONValue(parsing: granite).object)
    // Members may come twice: the last one counts.
    try Array("{\(changes)}".utf8).withUnsafeBufferPointer { bytes in
      var scanner = JSONScanner(bytes)
      try scanner.object { scanner, key in
        let value = try scanner.value()
        object[key] = value.isNull ? nil : value
      }
    }
    return Array(JSONValue.object(object).serialized().utf8)
  }

  static func read(_ changes: String = "") throws -> ModelConfiguration {
    try ModelConfiguration(json: changed(changes))
  }

  @Test func publishedDialect() throws {
    let model = try Self.read()
    #expect(model.architecture == .granite)
    #expect(model.hiddenSize == 2048 && model.layerCount == 40)
    #expect(model.headCount == 32 && model.keyValueHeadCount == 8 && model.headSize == 64)
    #expect(model.intermediateSize == 8192 && model.vocabularySize == 49155)
    #expect(model.contextLength == 4096 && model.ropeTheta == 10_000)
    #expect(model.normEpsilon == 1e-5)
    #expect(model.embeddingMultiplier == 12 && model.attentionMultiplier == 0.015625)
    #expect(model.residualMultiplier == 0.22 && model.logitsScaling == 8)
    #expect(model.tiedEmbeddings && !model.attentionBias && !model.mlpBias && !model.hasFusedMLP)
    #expect(model.usesRotaryPositions && model.sourceType == .bf16)
    #expect(model.eosTokenIDs == [0] && model.bosTokenID == 0 && model.padTokenID == 0)
  }

  @Test func bothDialectsAgree() throws {
    let new = try Self.read(
      """
      "torch_dtype": null, "rope_theta": null, "dtype": "bfloat16", "embedding_multiplier": 12,
      "rope_parameters": {"rope_theta": 10000, "rope_type": "default"}, "hidden_size": 2048.0,
      "logits_scaling": 8, "layer_types": null
      """)
    #expect(try new == Self.read())
  }

  static let hybrid = """
    "architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid",
    "num_hidden_layers": 2, "num_local_experts": 0, "shared_intermediate_size": 4096,
    "position_embedding_type": "rope"
    """

  @Test(arguments: [
    "\"layer_types\": [\"attention\", \"attention\"]",
    "\"layer_types\": [\"full_attention\", \"full_attention\"]",
    "\"layers_block_type\": [\"attention\", \"attention\"]",
  ])
  func attentionOnlyHybrids(types: String) throws {
    let model = try Self.read(Self.hybrid + "," + types)
    #expect(model.architecture == .graniteHybrid && model.hasFusedMLP)
    #expect(model.intermediateSize == 4096)
    #expect(model.usesRotaryPositions)
    let without = try Self.read(
      Self.hybrid + "," + types + ", \"position_embedding_type\": \"nope\"")
    #expect(!without.usesRotaryPositions)
    let silent = try Self.read(Self.hybrid + "," + types + ", \"position_embedding_type\": null")
    #expect(!silent.usesRotaryPositions)
  }

  static let llama = """
    "architectures": ["LlamaForCausalLM"], "model_type": "llama"
    """
  static let experts = """
    "architectures": ["GraniteMoeForCausalLM"], "model_type": "granitemoe",
    "num_local_experts": 40, "num_experts_per_tok": 8, "intermediate_size": 512
    """

  @Test func mixturesOfExperts() throws {
    let model = try Self.read(Self.experts)
    let experts = try #require(model.experts)
    #expect(experts.count == 40 && experts.usedCount == 8 && experts.intermediateSize == 512)
    #expect(model.architecture == .graniteMoe && model.intermediateSize == 0)
    #expect(model.expectedTensors.count == 9 * 40 + 2)
    let prefix = "model.layers.39.block_sparse_moe."
    let shapes = Dictionary(uniqueKeysWithValues: model.expectedTensors.map { ($0.name, $0.shape) })
    #expect(shapes[prefix + "router.layer.weight"] == [40, 2048])
    #expect(shapes[prefix + "input_linear.weight"] == [40, 1024, 2048])
    #expect(shapes[prefix + "output_linear.weight"] == [40, 2048, 512])

    // Missing fields mean what the published model code says.
    let silent = try Self.read(
      Self.experts + ", \"num_local_experts\": null, \"num_experts_per_tok\": null")
    #expect(silent.experts?.count == 8 && silent.experts?.usedCount == 2)
    #expect(try Self.read().experts == nil)

    let shared = try Self.read(
      Self.experts + ", \"model_type\": \"granitemoeshared\", \"shared_intermediate_size\": 96")
    #expect(shared.architecture == .graniteMoeShared && shared.intermediateSize == 96)
    #expect(shared.expectedTensors.count == 11 * 40 + 2)
    let alone = try Self.read(Self.experts + ", \"model_type\": \"granitemoeshared\"")
    #expect(alone.intermediateSize == 0 && alone.expectedTensors.count == 9 * 40 + 2)
    let hybrid = try Self.read(
      Self.hybrid + ", \"layer_types\": [\"attention\", \"attention\"], "
        + "\"num_local_experts\": 62, \"num_experts_per_tok\": 6, \"intermediate_size\": 512")
    #expect(hybrid.experts?.count == 62 && hybrid.intermediateSize == 4096)
    #expect(hybrid.expectedTensors.count == 11 * 2 + 2)
  }

  /// transformers 5 saves experts under names of its own.
  @Test func namesOfExperts() throws {
    let model = try Self.read(Self.experts)
    let fifth = model.resolved { $0.hasSuffix("block_sparse_moe.experts.gate_up_proj") }
    let names = Set(fifth.expectedTensors.map(\.name))
    for name in ["router.weight", "experts.gate_up_proj", "experts.down_proj"] {
      #expect(names.contains("model.layers.3.block_sparse_moe." + name))
    }
    #expect(fifth.resolved { $0.hasSuffix("input_linear.weight") } == model)
    for (name, role) in zip(
      ["router", "gateUp", "down"], [TensorRole.router, .expertGateUp, .expertDown])
    {
      for experts in [model.experts!, fifth.experts!] {
        let path =
          ["router": experts.router, "gateUp": experts.gateUp, "down": experts.down][name]!
        #expect(TensorRole(tensorName: "model.layers.0." + path) == role)
      }
    }
    #expect(
      TensorRole(tensorName: "model.layers.0.shared_mlp.output_linear.weight") == .down)
  }

  @Test func llamaHasNoMultipliers() throws {
    let model = try Self.read(
      """
      "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_multiplier": null,
      "embedding_multiplier": null, "residual_multiplier": null, "logits_scaling": null,
      "num_key_value_heads": null, "head_dim": 80, "attention_bias": true, "mlp_bias": true
      """)
    #expect(model.embeddingMultiplier == 1 && model.residualMultiplier == 1)
    #expect(model.logitsScaling == 1)
    #expect(model.attentionMultiplier == Float(1 / 80.0.squareRoot()))
    #expect(model.keyValueHeadCount == 32 && model.headSize == 80)
    let names = Set(model.expectedTensors.map(\.name))
    #expect(model.expectedTensors.count == 16 * 40 + 2)
    #expect(names.contains("model.layers.39.mlp.down_proj.bias"))
  }

  @Test(arguments: zip(["7", "[7, 3, 7]", "null", "7.0"], [[7], [3, 7], [], [7]]))
  func eosIDs(json: String, ids: [Int]) throws {
    #expect(try Self.read("\"eos_token_id\": \(json)").eosTokenIDs == ids)
    let generation = try GenerationConfiguration(
      json: Array("{\"eos_token_id\": \(json), \"pad_token_id\": -1}".utf8), vocabularySize: 8)
    #expect(generation.eosTokenIDs == ids)
    #expect(generation.padTokenID == nil)
  }

  /// Changes, and words that the error must contain.
  static let refused: [(String, [String])] = [
    (
      "\"architectures\": [\"GraniteSwitchForCausalLM\"]",
      ["GraniteSwitchForCausalLM", "supported"]
    ),
    ("\"model_type\": \"granite_switch\"", ["granite_switch", "GraniteForCausalLM"]),
    ("\"architectures\": [\"GraniteModel\"]", ["GraniteModel"]),
    ("\"architectures\": null, \"model_type\": null", ["model_type", "missing"]),
    ("\"architectures\": 3", ["architectures", "array of strings"]),
    ("\"architectures\": [\"Bad\\u001b[31m\"]", ["Bad\\u{1B}"]),
    ("\"text_config\": {}", ["text_config", "text models"]),
    ("\"quantization_config\": {\"quant_method\": \"fp8\"}", ["quantization_config", "fp8"]),
    ("\"compression_config\": {}", ["compression_config"]),
    ("\"hidden_act\": \"gelu\"", ["hidden_act", "gelu", "silu"]),
    ("\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}", ["rope_scaling", "linear"]),
    ("\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 10000}", ["yarn", "default"]),
    ("\"rope_parameters\": {\"rope_theta\": 10001}", ["rope_theta", "10001"]),
    ("\"rope_parameters\": {\"full_attention\": {}}", ["rope_parameters.full_attention"]),
    ("\"rope_parameters\": 5", ["rope_parameters", "an object"]),
    ("\"rope_parameters\": {\"factor\": 8}", ["factor"]),
    ("\"partial_rotary_factor\": 0.5", ["partial_rotary_factor"]),
    ("\"sliding_window\": 128", ["sliding_window", "128"]),
    ("\"layer_types\": [\"sliding_attention\"]", ["sliding_attention"]),
    ("\"layer_types\": [\"attention\"]", ["layer_types", "40"]),
    ("\"num_local_experts\": 8", ["num_local_experts", "8"]),
    ("\"position_embedding_type\": \"nope\"", ["position_embedding_type", "nope"]),
    ("\"final_logit_softcapping\": 30.0", ["final_logit_softcapping"]),
    ("\"torch_dtype\": \"float8_e4m3fn\"", ["float8_e4m3fn", "bfloat16"]),
    ("\"hidden_size\": null", ["hidden_size", "missing"]),
    ("\"hidden_size\": 0", ["hidden_size", "0"]),
    ("\"hidden_size\": -2048", ["hidden_size", "-2048"]),
    ("\"hidden_size\": 9223372036854775807", ["hidden_size", "9223372036854775807"]),
    ("\"hidden_size\": 1e30", ["hidden_size", "1e+30"]),
    ("\"hidden_size\": 2048.5", ["hidden_size", "2048.5"]),
    ("\"hidden_size\": \"2048\"", ["hidden_size", "\"2048\""]),
    ("\"hidden_size\": [1, 2, 3, 4, 5]", ["hidden_size", "array of 5"]),
    ("\"hidden_size\": 2050", ["num_attention_heads", "divisor"]),
    ("\"hidden_size\": 96", ["head_dim", "even"]),
    ("\"head_dim\": 63", ["head_dim", "63"]),
    ("\"head_dim\": 16384, \"num_attention_heads\": 16384", ["num_attention_heads"]),
    ("\"num_key_value_heads\": 5", ["num_key_value_heads", "5"]),
    ("\"num_key_value_heads\": 64", ["num_key_value_heads", "64"]),
    ("\"num_hidden_layers\": 100000", ["num_hidden_layers", "100000"]),
    ("\"vocab_size\": 1e9", ["vocab_size"]),
    ("\"intermediate_size\": true", ["intermediate_size", "true"]),
    ("\"max_position_embeddings\": 0", ["max_position_embeddings"]),
    ("\"rope_theta\": 0", ["rope_theta"]),
    ("\"rope_theta\": 1e300", ["rope_theta"]),
    ("\"rms_norm_eps\": 0", ["rms_norm_eps"]),
    ("\"rms_norm_eps\": 1e-60", ["rms_norm_eps"]),
    ("\"logits_scaling\": 0", ["logits_scaling", "0"]),
    ("\"embedding_multiplier\": 1e39", ["embedding_multiplier"]),
    ("\"residual_multiplier\": \"0.22\"", ["residual_multiplier"]),
    ("\"attention_bias\": 1", ["attention_bias", "true or false"]),
    ("\"eos_token_id\": 49155", ["eos_token_id", "49155"]),
    ("\"eos_token_id\": [0, \"x\"]", ["eos_token_id", "\"x\""]),
    ("\"eos_token_id\": -2", ["eos_token_id"]),
    (hybrid, ["layer_types", "missing"]),
    (
      hybrid + ", \"layer_types\": [\"mamba\", \"mamba\"]",
      ["layer_types", "no layer with attention"]
    ),
    (
      mamba + ", \"layers_block_type\": [\"attention\", \"mamba\"]",
      ["layers_block_type", "layer_types"]
    ),
    (mamba + ", \"mamba_n_heads\": 6", ["mamba_n_heads", "divisor", "6"]),
    (mamba + ", \"mamba_d_head\": 16", ["mamba_d_head", "16"]),
    (mamba + ", \"mamba_n_groups\": 3", ["mamba_n_groups", "divisor", "3"]),
    (mamba + ", \"mamba_expand\": 9223372036854775807", ["mamba_expand"]),
    (mamba + ", \"mamba_d_state\": 0", ["mamba_d_state", "0"]),
    (mamba + ", \"mamba_d_conv\": 17", ["mamba_d_conv", "17"]),
    (mamba + ", \"mamba_proj_bias\": true", ["mamba_proj_bias", "true"]),
    (mamba + ", \"time_step_limit\": [0, 0.1]", ["time_step_limit", "0.1"]),
    ("\"layer_types\": [\"mamba\"]", ["layer_types", "mamba"]),
    (llama + ", \"num_local_experts\": 4", ["num_local_experts", "4"]),
    (experts + ", \"num_local_experts\": 0", ["num_local_experts", "0", "1 to 4096"]),
    (experts + ", \"num_local_experts\": 4097", ["num_local_experts", "4097"]),
    (experts + ", \"num_experts_per_tok\": 41", ["num_experts_per_tok", "41", "1 to 40"]),
    (experts + ", \"num_experts_per_tok\": 0", ["num_experts_per_tok", "0"]),
    (experts + ", \"intermediate_size\": null", ["intermediate_size", "missing"]),
    (experts + ", \"n_routed_experts\": 4", ["n_routed_experts"]),
    (experts + ", \"mlp_bias\": true", ["mlp_bias"]),
    (hybrid + ", \"mlp_bias\": true", ["mlp_bias"]),
    (hybrid + ", \"normalization_function\": \"layernorm\"", ["layernorm"]),
    (
      hybrid + ", \"layer_types\": [\"attention\", \"attention\"],"
        + "\"position_embedding_type\": \"alibi\"", ["alibi"]
    ),
  ]

  /// A hybrid with a Mamba2 layer.
  static let mamba = hybrid + ", \"layer_types\": [\"mamba\", \"attention\"]"

  @Test func mambaLayersHaveTheirSizes() throws {
    let plain = try #require(try Self.read(Self.mamba).mamba)
    let hidden = try Self.read(Self.mamba).hiddenSize
    #expect(plain.headCount == 128 && plain.innerSize == 2 * hidden)
    #expect(plain.stateSize == 256 && plain.groupCount == 1 && plain.convolutionSize == 4)
    #expect(plain.hasConvolutionBias)
    let small = try Self.read(
      Self.mamba + """
        , "mamba_n_heads": 8, "mamba_d_head": "auto", "mamba_n_groups": 2, "mamba_d_state": 16,
        "mamba_d_conv": 3, "mamba_conv_bias": false,
        "time_step_limit": [0.0, {"__float__": "Infinity"}],
        "layers_block_type": ["linear_attention", "full_attention"]
        """)
    let shape = try #require(small.mamba)
    #expect(small.layerKinds == [.mamba, .attention])
    #expect(shape.channelCount == 2 * hidden + 64 && !shape.hasConvolutionBias)
    #expect(shape.projectionSize == 4 * hidden + 64 + 8)
    #expect(small.expectedTensors.count == 2 + 11 + 8)
  }

  @Test(arguments: refused) func isRefused(changes: String, words: [String]) throws {
    let json = try Self.changed(changes)
    let error = try #require(throws: ConfigurationError.self) {
      try ModelConfiguration(json: json)
    }
    for word in words { #expect("\(error)".contains(word), "\(error)") }
  }

  @Test(arguments: ["", "[]", "{", "{\"a\":1,\"a\":2}", "nul", "\u{FEFF}{}", "{} x"])
  func isNotAnObject(text: String) {
    #expect(throws: ConfigurationError.self) { try ModelConfiguration(json: Array(text.utf8)) }
  }

  @Test func longDocumentsAreNotRead() throws {
    let json = try Self.changed("") + [UInt8](repeating: UInt8(ascii: " "), count: 1 << 20)
    #expect(throws: ConfigurationError.self) { try ModelConfiguration(json: json) }
  }

  /// Tensor names decide which projections there are: dense 4.0 models exist under both classes.
  @Test func fusedProjectionsFollowTheTensors() throws {
    let granite = try Self.read()
    #expect(granite.resolved { $0.contains("shared_mlp.input_linear") }.hasFusedMLP)
    #expect(!granite.resolved { $0.contains("mlp.gate_proj") }.hasFusedMLP)
    let hybrid = try Self.read(
      Self.hybrid + ", \"layer_types\": [\"attention\", \"attention\"]")
    #expect(hybrid.expectedTensors.count == 8 * 2 + 2)
    let split = hybrid.resolved { $0.contains(".mlp.gate_proj") }
    #expect(!split.hasFusedMLP && split.expectedTensors.count == 9 * 2 + 2)
  }

  /// Bytes of a configuration changed at random: read or refused, nothing else.
  @Test func anyFlipIsSurvived() throws {
    let json = try Self.changed(Self.hybrid + ", \"layer_types\": [\"attention\", \"attention\"]")
    var random = SplitMix64(seed: 1)
    var accepted = 0
    for _ in 0..<20_000 {
      var bytes = json
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] ^=
          1
          << UInt8.random(
            in: 0..<8, using: &random)
      }
      do throws(ConfigurationError) {
        _ = try ModelConfiguration(json: bytes).expectedTensors
        accepted += 1
      } catch {}
    }
    #expect(accepted > 0)
    for length in 0..<json.count {
      #expect(throws: ConfigurationError.self) {
        try ModelConfiguration(json: Array(json[..<length]))
      }
    }
  }
}
