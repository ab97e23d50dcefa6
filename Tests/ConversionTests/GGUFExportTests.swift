import Conversion
import Foundation
import JSON
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Testing

/// Slabs as GGUF files, read back.
@Suite struct GGUFExportTests {
  private static let pool = WorkerPool(threadCount: 2)

  private static func convert(_ checkpoint: Checkpoint, _ recipe: Recipe, to url: URL) throws
    -> Slab
  {
    _ = try Converter(
      checkpoint: checkpoint, recipe: recipe, calibration: .none, profile: .run, pool: pool
    ).run(to: url.path)
    return try Slab(path: url.path)
  }

  private static func tensor(_ file: GGUFFile, _ name: String) throws -> GGUFTensor {
    try #require(file.tensors.first { $0.name == name })
  }

  private static func value(_ file: GGUFFile, _ key: String) -> JSONValue? {
    file.metadata.first { $0.key == key }?.value.json()
  }

  private static func row(_ view: MatrixView, _ row: Int) -> [Float] {
    var values = [Float](repeating: 0, count: view.columns)
    view.copyRow(row, into: &values)
    return values
  }

  private static func row(_ matrix: WeightMatrix, _ row: Int) -> [Float] {
    var values = [Float](repeating: 0, count: matrix.geometry.columns)
    matrix.copyRow(row, into: &values)
    return values
  }

  /// Rows in llama.cpp's order, rounded to float16; hyperparameters and tokenizer.
  @Test func pebbleIsReadBack() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = try Self.convert(
        try Checkpoint(directory: Pebble.directory.path), .q4,
        to: directory.appending(path: "a.slab"))
      let path = directory.appending(path: "a.gguf").path
      var last = (0, 1)
      let byteCount = try GGUFExport.write(
        slab, to: path, name: "pebble", pool: Self.pool, progress: { last = ($0, $1) })
      #expect(last.0 == last.1)
      let file = try GGUFFile(path: path)
      #expect(file.tensors.count == 2 + 9 * 8)
      #expect(file.tensors.reduce(0) { $0 + $1.byteCount } == byteCount)
      for (name, source, headSize) in [
        ("token_embd", "model.embed_tokens", nil),
        ("blk.3.attn_q", "model.layers.3.self_attn.q_proj", 64),
        ("blk.3.attn_k", "model.layers.3.self_attn.k_proj", 64),
        ("blk.3.attn_v", "model.layers.3.self_attn.v_proj", nil),
        ("blk.7.ffn_down", "model.layers.7.mlp.down_proj", nil),
      ] as [(String, String, Int?)] {
        let tensor = try Self.tensor(file, name + ".weight")
        let matrix = try slab.matrix(named: source + ".weight", pool: Self.pool)
        let (rows, columns) = (matrix.geometry.rows, matrix.geometry.columns)
        #expect(tensor.type.name == "F16" && tensor.shape == [rows, columns])
        let view = MatrixView(
          file.bytes(of: tensor), elementType: .f16, rows: rows, columns: columns)
        for row in 0..<rows {
          var target = row
          if let headSize {  // half h of a head, row j of it
            let (head, h, j) = (
              row / headSize, row % headSize / (headSize / 2), row % (headSize / 2)
            )
            target = head * headSize + 2 * j + h
          }
          #expect(Self.row(view, target) == Self.row(matrix, row).map { Float(Float16($0)) })
        }
      }
      let norm = try Self.tensor(file, "blk.0.ffn_norm.weight")
      let values = try slab.values(named: "model.layers.0.post_attention_layernorm.weight")
      #expect(
        Self.row(MatrixView(file.bytes(of: norm), elementType: .f32, rows: 1, columns: 256), 0)
          == values)
      let expected: [(String, JSONValue)] = [
        ("general.architecture", .string("granite")), ("general.file_type", .integer(1)),
        ("granite.block_count", .integer(8)), ("granite.attention.head_count_kv", .integer(2)),
        ("granite.embedding_scale", .double(12)), ("granite.residual_scale", .double(0.22)),
        ("granite.attention.scale", .double(0.03125)), ("granite.logit_scale", .double(4)),
        ("granite.rope.freq_base", .double(10_000)), ("tokenizer.ggml.model", .string("gpt2")),
        ("tokenizer.ggml.pre", .string("smollm")), ("tokenizer.ggml.eos_token_id", .integer(0)),
        ("tokenizer.ggml.add_bos_token", .bool(false)),
      ]
      for (key, value) in expected { #expect(Self.value(file, key) == value, "\(key)") }
      #expect(Self.value(file, "granite.rope.scaling.finetuned") == nil)
      let tokens = try #require(Self.value(file, "tokenizer.ggml.tokens")?.array)
      let types = try #require(Self.value(file, "tokenizer.ggml.token_type")?.array)
      #expect(tokens.count == 4099 && types.count == 4099)
      #expect(tokens[4090] == .string("<|start_of_role|>") && types[4090] == .integer(3))
      #expect(types[1] == .integer(1))
      // What is no token has a row in the embedding.
      #expect(tokens[4098] == .string("[PAD4098]") && types[4098] == .integer(5))
      #expect(Self.value(file, "tokenizer.ggml.merges")?.array?[0] == .string("Ġ t"))
      #expect(Self.value(file, "tokenizer.chat_template")?.string?.contains("Pebble") == true)
    }
  }

  /// Scales and codes as ggml's reference has them, in arithmetic of this test's own.
  @Test func blocksOfQ8() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = try Self.convert(
        try Checkpoint(directory: Pebble.directory.path), .bf16,
        to: directory.appending(path: "a.slab"))
      let path = directory.appending(path: "a.gguf").path
      try GGUFExport.write(slab, to: path, name: "pebble", as: .q8, pool: Self.pool)
      let file = try GGUFFile(path: path)
      let tensor = try Self.tensor(file, "blk.2.ffn_up.weight")
      #expect(tensor.type.name == "Q8_0")
      #expect(Self.value(file, "general.file_type") == .integer(7))
      let bytes = file.bytes(of: tensor)
      let matrix = try slab.matrix(named: "model.layers.2.mlp.up_proj.weight", pool: Self.pool)
      for row in 0..<matrix.geometry.rows {
        let values = Self.row(matrix, row)
        for block in 0..<values.count / 32 {
          let part = values[32 * block..<32 * block + 32]
          let place = (row * values.count / 32 + block) * 34
          let scale = part.map(abs).max()! / 127
          #expect(
            bytes.loadUnaligned(fromByteOffset: place, as: UInt16.self) == Float16(scale).bitPattern
          )
          for (index, value) in part.enumerated() {
            let scaled = Double(value * (1 / scale))
            let code = Int(scaled < 0 ? (scaled - 0.5).rounded(.up) : (scaled + 0.5).rounded(.down))
            #expect(
              Int(bytes.load(fromByteOffset: place + 2 + index, as: Int8.self)) == code)
          }
        }
      }
    }
  }

  @Test func nothingIsLeftOfWhatFails() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = try Self.convert(
        try ConversionTests.golden("granite-tied"), .bf16, to: directory.appending(path: "a.slab"))
      let path = directory.appending(path: "a.gguf").path
      func names() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
      }
      #expect(throws: CancellationError.self) {
        try GGUFExport.write(slab, to: path, name: "a", pool: Self.pool, isCancelled: { true })
      }
      #expect(try names() == ["a.slab"])
      try Data("mine".utf8).write(to: URL(filePath: path))
      #expect(throws: FileError.self) {
        try GGUFExport.write(slab, to: path, name: "a", pool: Self.pool)
      }
      #expect(try Data(contentsOf: URL(filePath: path)) == Data("mine".utf8))
      #expect(try names() == ["a.gguf", "a.slab"])
    }
  }

  /// A slab like Pebble, one value of whose embedding is `value`, with other assets.
  private static func altered(
    _ url: URL, value: Float? = nil, without missing: String? = nil,
    assets: (SlabAsset) -> SlabAsset = { $0 }
  ) throws -> Slab {
    let source = try Checkpoint(directory: Pebble.directory.path)
    let template = try convert(source, .f32, to: url.appendingPathExtension(UUID().uuidString))
    let writer = try SlabWriter(
      path: url.path, profile: .run, replacing: true, inputs: [],
      assets: template.assets.map(assets), metadata: [:], expectedByteCount: 0, pool: pool)
    for tensor in source.tensors where tensor.name != missing {
      var values = try source.values(named: tensor.name)
      if tensor.name == "model.embed_tokens.weight", let value {
        values[tensor.shape[1] * 2 + 3] = value
      }
      try writer.append(values, name: tensor.name, shape: tensor.shape, sourceType: .f32)
    }
    try writer.finish()
    return try Slab(path: url.path)
  }

  @Test func whatAGGUFCannotHoldIsRefused() throws {
    try Place.withTemporaryDirectory { directory in
      let (url, path) = (
        directory.appending(path: "a.slab"), directory.appending(path: "a.gguf").path
      )
      func failure(_ slab: Slab, _ type: RowEncoding = .f16) -> ExportError? {
        #expect(throws: ExportError.self) {
          try GGUFExport.write(slab, to: path, name: "a", as: type, pool: Self.pool)
        }
      }
      #expect(
        failure(try Self.altered(url, value: 70_000))
          == .nonFinite(
            path: url.path, tensor: "model.embed_tokens.weight", row: 2, column: 3, type: "f16"))
      // ±65520 is the first that rounds to infinity.
      try GGUFExport.write(
        try Self.altered(url, value: -65_519), to: path, name: "a", pool: Self.pool)
      try FileManager.default.removeItem(atPath: path)
      let missing = failure(try Self.altered(url, without: "model.norm.weight"))
      #expect(missing?.description.contains("model.norm.weight") == true)
      // Other splittings of texts than llama.cpp has compiled in; those that it has.
      func splitting(_ replacement: String) throws -> Slab {
        try Self.altered(url) { asset in
          guard asset.name == "tokenizer.json" else { return asset }
          let text = String(decoding: asset.bytes, as: UTF8.self)
          let changed = text.replacing(/"individual_digits": *true/, with: replacement)
          return SlabAsset(name: asset.name, bytes: Array(changed.utf8))
        }
      }
      let runs = failure(try splitting(#""individual_digits":false"#))
      #expect(runs?.description.contains("Digits, ByteLevel") == true)
      #expect(!FileManager.default.fileExists(atPath: path))
    }
  }
}
