import Foundation
import ModelFiles
import TensorCore
import TestSupport
import Testing

@Suite struct CheckpointTests {
  static let index = "model.safetensors.index.json"

  @Test func shardsAreOneCheckpoint() throws {
    let builder = try CheckpointBuilder()
    let single = try CheckpointBuilder.open(builder.files())
    let sharded = try CheckpointBuilder.open(builder.shardedFiles())
    #expect(single.tensors.map(\.name) == sharded.tensors.map(\.name))
    #expect(single.tensors.map(\.name) == builder.tensors.map(\.name).sorted())
    for tensor in single.tensors {
      #expect(try single.values(named: tensor.name) == sharded.values(named: tensor.name))
    }
    #expect(single.warnings.isEmpty && sharded.warnings.isEmpty)
    #expect(sharded.files.count == 6)  // config, tokenizer, index, three shards
    #expect(sharded.weightFileNames.count == 3)
    #expect(single.assets.map(\.name) == ["config.json", "tokenizer.json"])
    #expect(single.descriptor(named: "nonsense") == nil)
    #expect(throws: CheckpointError.self) { try single.matrix(named: "nonsense") }
    #expect(throws: CheckpointError.self) { try single.matrix(named: "model.norm.weight") }
  }

  @Test func assetsAreKeptByteForByte() throws {
    var builder = try CheckpointBuilder()
    let template = Array("{{ x }}\r\n\u{FEFF}".utf8) + [0xFF, 0]
    builder.others["chat_template.jinja"] = template
    builder.others["tokenizer.json"] = nil
    let checkpoint = try CheckpointBuilder.open(builder.files())
    #expect(checkpoint.assets.map(\.name) == ["config.json", "chat_template.jinja"])
    #expect(checkpoint.assets.last?.bytes == template)
    #expect(checkpoint.warnings.count == 1)
    #expect(checkpoint.warnings[0].contains("tokenizer.json"))
  }

  @Test func tiedOutputMayRepeatTheEmbedding() throws {
    var builder = try CheckpointBuilder()
    let embedding = builder["model.embed_tokens.weight"]
    builder.tensors.append(("lm_head.weight", embedding.dtype, embedding.shape, embedding.bytes))
    let checkpoint = try CheckpointBuilder.open(builder.files())
    #expect(checkpoint.descriptor(named: "lm_head.weight") == nil)
    #expect(checkpoint.warnings.count == 1)

    builder["lm_head.weight"].bytes[3] ^= 1
    let error = try #require(throws: CheckpointError.self) {
      try CheckpointBuilder.open(builder.files())
    }
    #expect(error.reason == .untiedOutput)

    builder.config = builder.config.replacing("true", with: "false")
    #expect(
      try CheckpointBuilder.open(builder.files()).descriptor(named: "lm_head.weight") != nil)
  }

  /// Dense 4.0 models exist under both classes: the names of the projections decide.
  @Test func classAndTensorNamesMayDisagree() throws {
    var builder = try CheckpointBuilder()
    let granite = builder.config
    builder.config = granite.replacing("GraniteForCausalLM", with: "GraniteMoeHybridForCausalLM")
      .replacing("\"granite\"", with: "\"granitemoehybrid\"")
      .replacing(
        "\"intermediate_size\": 6",
        with: "\"shared_intermediate_size\": 6, \"num_local_experts\": 0, \"layer_types\": "
          + "[\"attention\"], \"position_embedding_type\": \"rope\"")
    let split = try CheckpointBuilder.open(builder.files())
    #expect(split.configuration.architecture == .graniteHybrid)
    #expect(!split.configuration.hasFusedMLP && split.tensors.count == 11)

    builder.config = granite
    let layer = "model.layers.0."
    builder.tensors.removeAll { $0.name.hasPrefix(layer + "mlp.") }
    for (name, shape) in [("input_linear", [12, 8]), ("output_linear", [8, 6])] {
      builder.tensors.append(
        (
          layer + "shared_mlp.\(name).weight", "BF16", shape,
          [UInt8](repeating: 0, count: 2 * shape[0] * shape[1])
        ))
    }
    let fused = try CheckpointBuilder.open(builder.files())
    #expect(fused.configuration.architecture == .granite)
    #expect(fused.configuration.hasFusedMLP && fused.tensors.count == 10)
  }

  @Test func rotaryTablesAreLeftOut() throws {
    var builder = try CheckpointBuilder()
    let name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    builder.tensors.append((name, "F32", [2], [UInt8](repeating: 0, count: 8)))
    let checkpoint = try CheckpointBuilder.open(builder.files())
    #expect(checkpoint.descriptor(named: name) == nil)
    #expect(checkpoint.warnings.count == 1)
  }

  /// What is wrong, how the files are bent, the error and words of its text.
  static let malformed:
    [(
      String, @Sendable (inout CheckpointBuilder) -> Void,
      @Sendable (inout [String: [UInt8]]) -> Void,
      CheckpointError.Reason, [String]
    )] = [
      ("no config", { _ in }, { $0["config.json"] = nil }, .noCheckpoint, ["config.json"]),
      (
        "no weights", { _ in }, { $0["model.safetensors"] = nil }, .noCheckpoint,
        ["model.safetensors", "neither"]
      ),
      ("bad config", { $0.config = "{" }, { _ in }, .configuration, ["config.json", "JSON"]),
      (
        "bad generation config", { _ in },
        { $0["generation_config.json"] = Array("{\"eos_token_id\": 5}".utf8) }, .configuration,
        ["generation_config.json", "eos_token_id"]
      ),
      (
        "missing tensor", { $0.tensors.removeLast() }, { _ in }, .missingTensor,
        ["model.norm.weight", "[8]"]
      ),
      (
        "output untied",
        { $0.config = $0.config.replacing("true", with: "false") }, { _ in }, .missingTensor,
        ["lm_head.weight"]
      ),
      (
        "unknown tensor", { $0.tensors.append(("extra\u{1B}.weight", "BF16", [1], [0, 0])) },
        { _ in }, .malformed, []  // a control character is not even JSON
      ),
      (
        "unknown tensors",
        { $0.tensors += [("b.weight", "BF16", [1], [0, 0]), ("a.weight", "I64", [0], [])] },
        { _ in }, .unexpectedTensor, ["a.weight", "1 more"]
      ),
      (
        "wrong shape", { $0["model.norm.weight"].shape = [4, 2] }, { _ in }, .shape,
        ["model.norm.weight", "[8]", "[4, 2]"]
      ),
      (
        "transposed", { $0["model.layers.0.mlp.down_proj.weight"].shape = [6, 8] }, { _ in },
        .shape, ["[8, 6]", "[6, 8]"]
      ),
      (
        "FP8 weight",
        {
          $0["model.layers.0.mlp.up_proj.weight"].dtype = "F8_E4M3"
          $0["model.layers.0.mlp.up_proj.weight"].bytes.removeLast(48)
        }, { _ in }, .elementType, ["mlp.up_proj", "F8_E4M3", "BF16"]
      ),
      (
        "integer weight", { $0["model.norm.weight"].dtype = "I16" }, { _ in }, .elementType,
        ["I16"]
      ),
    ]

  @Test(arguments: malformed.indices) func isRefused(index: Int) throws {
    let (name, bendBuilder, bendFiles, reason, words) = Self.malformed[index]
    var builder = try CheckpointBuilder()
    bendBuilder(&builder)
    var files = builder.files()
    bendFiles(&files)
    try expect(name, files, reason, words)
  }

  private func expect(
    _ name: String, _ files: [String: [UInt8]], _ reason: CheckpointError.Reason, _ words: [String]
  ) throws {
    let error = try #require(throws: CheckpointError.self, "\(name)") {
      try CheckpointBuilder.open(files)
    }
    #expect(error.reason == reason, "\(name): \(error)")
    for word in words { #expect("\(error)".contains(word), "\(name): \(error)") }
  }

  /// Replacements in the text of the index.
  static let malformedIndices: [(String, String, String, CheckpointError.Reason, [String])] = [
    ("no JSON", "{\"metadata\"", "", .malformed, ["index.json"]),
    ("no map", "weight_map", "weights", .malformed, ["weight_map", "none"]),
    ("a number", "\"model-00001-of-00003.safetensors\"", "1", .malformed, ["name of a shard"]),
    ("a path", "model-00001-of", "../model-00001-of", .shardName, ["../model-00001"]),
    ("an absolute path", "model-00001-of", "/tmp/model-00001-of", .shardName, []),
    ("a backslash", "model-00001-of", "x\\\\model-00001-of", .shardName, []),
    ("a zero", "model-00001-of", "x\\u0000model-00001-of", .shardName, []),
    ("hidden", "model-00001-of", ".model-00001-of", .shardName, []),
    ("another kind", "-00001-of-00003.safetensors", "-00001-of-00003.bin", .shardName, [".bin"]),
    ("missing shard", "model-00001-of", "model-00009-of", .unreadableFile, ["00009", "No such"]),
    ("twice", "model.norm.weight", "model.embed_tokens.weight", .duplicateName, ["duplicate"]),
    (
      "promised", "\"model.norm.weight\"",
      "\"ghost\": \"model-00003-of-00003.safetensors\","
        + "\"model.norm.weight\"", .missingTensor, ["ghost", "00003"]
    ),
    (
      "not listed", ",\n\"model.norm.weight\": \"model-00003-of-00003.safetensors\"", "",
      .unexpectedTensor, ["model.norm.weight", "lists"]
    ),
    (
      "elsewhere", "\"model.norm.weight\": \"model-00003", "\"model.norm.weight\": \"model-00001",
      .unexpectedTensor, ["model.norm.weight", "model-00001"]
    ),
  ]

  @Test(arguments: malformedIndices.indices) func indexIsRefused(index: Int) throws {
    let (name, old, new, reason, words) = Self.malformedIndices[index]
    var files = try CheckpointBuilder().shardedFiles()
    let text = String(decoding: try #require(files[Self.index]), as: UTF8.self)
    #expect(text.contains(old))
    files[Self.index] = Array(text.replacing(old, with: new).utf8)
    try expect(name, files, reason, words)
  }

  @Test func onePlaceForEveryTensor() throws {
    let builder = try CheckpointBuilder()
    var files = builder.shardedFiles()
    files["model-00003-of-00003.safetensors"] = builder.safetensors(7..<11)
    try expect("in two shards", files, .duplicateName, [builder.tensors[7].name])
    files = builder.shardedFiles()
    files["model.safetensors"] = builder.safetensors()
    try expect("two sets", files, .noCheckpoint, ["both"])
    // An index for a single file, as some writers make it, is no contradiction.
    files = builder.shardedFiles(at: [])
    let name = "model-00001-of-00001.safetensors"
    files["model.safetensors"] = files[name]
    files[name] = nil
    files[Self.index] = Array(
      String(decoding: try #require(files[Self.index]), as: UTF8.self)
        .replacing(name, with: "model.safetensors").replacing(
          "total_size\": 8", with: "total_size\": 9"
        ).utf8)
    #expect(try CheckpointBuilder.open(files).tensors.count == 11)
  }

  @Test func wrongTotalIsAWarning() throws {
    var files = try CheckpointBuilder().shardedFiles()
    files[Self.index] = Array(
      String(decoding: try #require(files[Self.index]), as: UTF8.self)
        .replacing("\"total_size\": ", with: "\"total_size\": 1").utf8)
    let checkpoint = try CheckpointBuilder.open(files)
    #expect(checkpoint.warnings.count == 1)
    #expect(checkpoint.warnings[0].contains("bytes"))
  }

  @Test func notADirectory() throws {
    for path in ["/dev/null", "/no/such/place", ""] {
      let error = try #require(throws: CheckpointError.self) { try Checkpoint(directory: path) }
      #expect(error.reason == .noCheckpoint)
    }
  }

  /// Every element type, infinities and NaN of both signs, at every kind of place.
  @Test(arguments: ["F32", "F16", "BF16"]) func nonFiniteWeightsAreFound(dtype: String) throws {
    let name = "model.layers.0.self_attn.q_proj.weight"
    let patterns: [UInt32] =
      switch dtype {
      case "F32": [0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 0xFF80_0001]
      case "F16": [0x7C00, 0xFC00, 0x7E00, 0xFC01]
      default: [0x7F80, 0xFF80, 0x7FC0, 0xFF81]
      }
    let size = dtype == "F32" ? 4 : 2
    for pattern in patterns {
      for index in [0, 17, 63] {
        var builder = try CheckpointBuilder()
        let bytes = withUnsafeBytes(of: pattern.littleEndian) { Array($0.prefix(size)) }
        builder[name].dtype = dtype
        builder[name].bytes = [UInt8](repeating: 0, count: 64 * size)
        builder[name].bytes.replaceSubrange(index * size..<(index + 1) * size, with: bytes)
        let checkpoint = try CheckpointBuilder.open(builder.files())
        let error = try #require(throws: CheckpointError.self) {
          try checkpoint.values(named: name)
        }
        #expect(error.reason == .nonFinite && error.tensor == name)
        #expect(error.found?.hasSuffix(" at index \(index)") == true)
        #expect(error.found?.contains("nan") == true || error.found?.contains("inf") == true)
      }
    }
  }
}
