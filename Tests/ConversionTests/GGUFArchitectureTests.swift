import Conversion
import Foundation
import JSON
import ModelFiles
import TensorCore
import TestSupport
import Testing

/// Slabs of every architecture as GGUF files, read back and held against the checkpoint.
@Suite struct GGUFArchitectureTests {
  private static let pool = WorkerPool(threadCount: 2)

  /// A tensor as it should be.
  private struct Wanted {
    var shape: [Int]
    var values: [Float]
  }

  private static func slab(_ source: Checkpoint, in directory: URL) throws -> Slab {
    let path = directory.appending(path: "a.slab").path
    _ = try Converter(
      checkpoint: source, recipe: .f32, calibration: .none, profile: .run, pool: pool,
      replacing: true
    ).run(to: path)
    return try Slab(path: path)
  }

  private static func export(
    _ source: Checkpoint, as type: RowEncoding = .f16, in directory: URL
  ) throws -> GGUFFile {
    let path = directory.appending(path: "\(type).gguf").path
    try GGUFExport.write(
      try slab(source, in: directory), to: path, name: "a", as: type, pool: pool)
    return try GGUFFile(path: path)
  }

  private static func value(_ file: GGUFFile, _ key: String) -> JSONValue? {
    file.metadata.first { $0.key == key }?.value.json()
  }

  /// What llama.cpp's converter calls modules of a layer, and other tensors.
  private static let names = [
    "model.embed_tokens": "token_embd", "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd", "model.norm": "output_norm",
    "transformer.ln_f": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
    "ln_1": "attn_norm", "post_attention_layernorm": "ffn_norm", "ln_2": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down", "mamba.in_proj": "ssm_in",
    "mamba.out_proj": "ssm_out", "mamba.conv1d": "ssm_conv1d", "mamba.norm": "ssm_norm",
    "block_sparse_moe.router": "ffn_gate_inp", "block_sparse_moe.router.layer": "ffn_gate_inp",
  ]

  /// The tensors that the converter would make of one, which is within a layer or not.
  private static func wanted(
    _ name: String, _ tensor: Wanted, _ configuration: ModelConfiguration
  ) -> [String: Wanted] {
    var tensor = tensor
    let shared = configuration.experts == nil ? "" : "_shexp"
    /// Of each matrix, the first and the second half of its rows.
    func halves(_ suffix: String) -> [String: Wanted] {
      var shape = tensor.shape
      shape[shape.count - 2] /= 2
      let part = shape.suffix(2).reduce(1, *)
      let starts = Array(stride(from: 0, to: tensor.values.count, by: 2 * part))
      return [
        "ffn_gate\(suffix).weight": Wanted(
          shape: shape, values: starts.flatMap { tensor.values[$0..<$0 + part] }),
        "ffn_up\(suffix).weight": Wanted(
          shape: shape, values: starts.flatMap { tensor.values[$0 + part..<$0 + 2 * part] }),
      ]
    }
    switch name {
    case "block_sparse_moe.input_linear.weight", "block_sparse_moe.experts.gate_up_proj":
      return halves("_exps")
    case "block_sparse_moe.output_linear.weight", "block_sparse_moe.experts.down_proj":
      return ["ffn_down_exps.weight": tensor]
    case "shared_mlp.input_linear.weight": return halves(shared)
    case "shared_mlp.output_linear.weight": return ["ffn_down\(shared).weight": tensor]
    case "mamba.A_log":
      return [
        "ssm_a": Wanted(
          shape: tensor.shape + [1], values: tensor.values.map { -Float(exp(Double($0))) })
      ]
    case "mamba.D": return ["ssm_d": Wanted(shape: tensor.shape + [1], values: tensor.values)]
    case "mamba.dt_bias": return ["ssm_dt.bias": tensor]
    default: break
    }
    let parts = name.split(separator: ".")
    let module = parts.dropLast().joined(separator: ".")
    if name == "mamba.conv1d.weight" { tensor.shape.remove(at: 1) }
    if name == "mamba.norm.weight", let groups = configuration.mamba?.groupCount {
      tensor.shape = [groups, tensor.shape[0] / groups]
    }
    if configuration.usesRotaryPositions, module.hasSuffix("q_proj") || module.hasSuffix("k_proj") {
      // Heads of two halves become heads of pairs.
      let (half, width) = (configuration.headSize / 2, tensor.shape.dropFirst().reduce(1, *))
      tensor.values = (0..<tensor.shape[0]).flatMap { row in
        let (head, pair, side) = (row / (2 * half), row % (2 * half) / 2, row % 2)
        let source = (head * 2 + side) * half + pair
        return tensor.values[source * width..<(source + 1) * width]
      }
    }
    return [names[module]! + "." + parts.last!: tensor]
  }

  /// Names, shapes and values of every committed variation.
  @Test(arguments: ConversionTests.names) func everyVariation(name: String) throws {
    try Place.withTemporaryDirectory { directory in
      let source = try ConversionTests.golden(name)
      var all: [String: Wanted] = [:]
      for tensor in source.tensors {
        let whole = Wanted(
          shape: tensor.shape, values: try source.values(named: tensor.name))
        let layer = TensorRole.layer(ofTensor: tensor.name)
        let name =
          layer == nil
          ? tensor.name : tensor.name.split(separator: ".").dropFirst(3).joined(separator: ".")
        for (key, value) in Self.wanted(name, whole, source.configuration) {
          all[layer.map { "blk.\($0)." + key } ?? key] = value
        }
      }
      let file = try Self.export(source, in: directory)
      #expect(file.tensors.map(\.name).sorted() == all.keys.sorted())
      for tensor in file.tensors {
        let expected = try #require(all[tensor.name], "\(tensor.name)")
        #expect(tensor.shape == expected.shape, "\(tensor.name)")
        let isHalf = tensor.type.name == "F16"
        let view = MatrixView(
          file.bytes(of: tensor), elementType: isHalf ? .f16 : .f32, rows: 1,
          columns: expected.values.count)
        var values = [Float](repeating: 0, count: view.columns)
        view.copyRow(0, into: &values)
        #expect(
          values == expected.values.map { isHalf ? Float(Float16($0)) : $0 }, "\(tensor.name)")
      }
      withExtendedLifetime(source) {}
    }
  }

  /// Matrices whose rows are whole blocks are quantized, but for those that llama.cpp keeps.
  @Test(arguments: ConversionTests.names) func types(name: String) throws {
    try Place.withTemporaryDirectory { directory in
      let file = try Self.export(
        try ConversionTests.golden(name), as: .q8, in: directory)
      for tensor in file.tensors {
        let role = try #require(TensorRole(ggufName: tensor.name), "\(tensor.name)")
        let isWhole = tensor.shape.last! % 32 == 0
        let isKept = !role.isMatrix || role == .router || role == .positions
        #expect(
          tensor.type.name == (isKept ? "F32" : isWhole ? "Q8_0" : "F16"), "\(tensor.name)")
      }
    }
  }

  @Test func hyperparameters() throws {
    let wanted: [String: [String: JSONValue?]] = [
      "moe-shared": [
        "general.architecture": .string("granitemoe"),
        "granitemoe.feed_forward_length": .integer(20), "granitemoe.expert_count": .integer(10),
        "granitemoe.expert_used_count": .integer(3),
        "granitemoe.expert_feed_forward_length": .integer(20),
        "granitemoe.expert_shared_feed_forward_length": .integer(56),
        "granitemoe.logit_scale": .double(7), "granitemoe.residual_scale": .double(0.25),
        "granitemoe.rope.dimension_count": .integer(12), "granitemoe.ssm.inner_size": nil,
      ],
      "moe": [
        "granitemoe.expert_count": .integer(32),
        "granitemoe.expert_shared_feed_forward_length": nil,
      ],
      "hybrid-experts": [
        "general.architecture": .string("granitehybrid"),
        "granitehybrid.feed_forward_length": .integer(16),
        "granitehybrid.expert_count": .integer(6),
        "granitehybrid.expert_shared_feed_forward_length": .integer(40),
        "granitehybrid.attention.head_count_kv":
          .array([.integer(0), .integer(1), .integer(0)]),
        "granitehybrid.rope.scaling.finetuned": .bool(false),
      ],
      "bigcode": [
        "general.architecture": .string("starcoder"), "starcoder.context_length": .integer(128),
        "starcoder.feed_forward_length": .integer(256),
        "starcoder.attention.head_count_kv": .integer(1),
        "starcoder.attention.layer_norm_epsilon": .double(1e-5),
        "starcoder.attention.layer_norm_rms_epsilon": nil, "starcoder.rope.freq_base": nil,
        "starcoder.logit_scale": nil, "starcoder.expert_count": nil,
      ],
    ]
    for (name, fields) in wanted {
      try Place.withTemporaryDirectory { directory in
        let source = try ConversionTests.golden(name)
        let file = try Self.export(source, in: directory)
        for (key, value) in fields { #expect(Self.value(file, key) == value, "\(name): \(key)") }
        // Which size is whose, as `quarry inspect` shows them.
        let (found, original) = try (
          ModelListing(path: file.path).facts, ModelListing(path: source.directory).facts
        )
        #expect(found.intermediateSize == original.intermediateSize, "\(name)")
        #expect(found.expertIntermediateSize == original.expertIntermediateSize, "\(name)")
      }
    }
  }

  /// Experts of attention without positions, which llama.cpp's "granitemoe" does not know, and more of
  /// them than it takes.
  @Test func expertsBeyondGraniteMoe() throws {
    func checkpoint(experts: Int, in directory: URL) throws -> Checkpoint {
      let json = """
        {"model_type": "granitemoehybrid", "hidden_size": 8, "intermediate_size": 2,
         "shared_intermediate_size": 4, "num_local_experts": \(experts),
         "num_experts_per_tok": 2, "num_hidden_layers": 1, "layer_types": ["attention"],
         "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 16,
         "max_position_embeddings": 16, "tie_word_embeddings": true}
        """
      let path = directory.appending(path: "checkpoint").path
      try SyntheticModel(configuration: Array(json.utf8), seed: 1).writeCheckpoint(
        to: path, pool: Self.pool)
      return try Checkpoint(directory: path)
    }
    try Place.withTemporaryDirectory { directory in
      let file = try Self.export(try checkpoint(experts: 1024, in: directory), in: directory)
      #expect(Self.value(file, "general.architecture") == .string("granite"))
      #expect(Self.value(file, "granite.rope.scaling.finetuned") == .bool(false))
      #expect(Self.value(file, "granite.expert_count") == .integer(1024))
    }
    try Place.withTemporaryDirectory { directory in
      let source = try checkpoint(experts: 1025, in: directory)
      let error = #expect(throws: ExportError.self) {
        _ = try Self.export(source, in: directory)
      }
      #expect("\(error!)".contains("1025 experts, and llama.cpp takes 1024 at most"))
      #expect(!FileManager.default.fileExists(atPath: directory.appending(path: "f16.gguf").path))
    }
  }
}
