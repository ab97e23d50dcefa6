import Conversion
import Foundation
import Inference
import JSON
import ModelFiles
import TensorCore
import TestSupport
import Testing

/// Models of random weights.
@Suite struct SyntheticModelTests {
  private let pool = WorkerPool(threadCount: 2)

  private static let config = """
    {"model_type": "granite", "hidden_size": 130, "intermediate_size": 200,
     "num_hidden_layers": 2, "num_attention_heads": 5, "num_key_value_heads": 5,
     "vocab_size": 307, "max_position_embeddings": 512, "tie_word_embeddings": false,
     "attention_bias": true, "embedding_multiplier": 12.0, "attention_multiplier": 0.03,
     "residual_multiplier": 0.22, "logits_scaling": 8.0, "eos_token_id": 0}
    """

  private func model(seed: UInt64 = 5) throws -> SyntheticModel {
    try SyntheticModel(configuration: Array(Self.config.utf8), seed: seed)
  }

  /// Names and bytes of all files of a directory.
  private func contents(_ directory: String) throws -> [String: Data] {
    let names = try FileManager.default.contentsOfDirectory(atPath: directory)
    return Dictionary(
      uniqueKeysWithValues: try names.map {
        ($0, try Data(contentsOf: URL(filePath: directory).appending(path: $0)))
      })
  }

  @Test func theSameSeedGivesTheSameBytes() throws {
    try Place.withTemporaryDirectory { folder in
      func files(_ name: String, seed: UInt64, threads: Int) throws -> [String: Data] {
        let path = folder.appending(path: name).path
        try model(seed: seed).writeCheckpoint(
          to: path, maximumShardByteCount: 200_000, pool: WorkerPool(threadCount: threads))
        return try contents(path)
      }
      let first = try files("a", seed: 5, threads: 1)
      #expect(first.count > 4)
      #expect(try files("b", seed: 5, threads: 3) == first)
      let other = try files("c", seed: 6, threads: 1)
      #expect(other.keys.sorted() == first.keys.sorted())
      for (name, bytes) in other where name.hasSuffix(".safetensors") {
        #expect(bytes != first[name], "\(name)")
      }
      #expect(throws: FileError.self) { try files("a", seed: 5, threads: 1) }
    }
  }

  /// The same files but for the weights, which are zeros that nobody wrote.
  @Test func headersAloneTakeNoSpace() throws {
    let large = Self.config.replacing("\"vocab_size\": 307", with: "\"vocab_size\": 100000")
    let model = try SyntheticModel(configuration: Array(large.utf8), seed: 5)
    try Place.withTemporaryDirectory { folder in
      func path(_ name: String) -> String { folder.appending(path: name).path }
      try model.writeCheckpoint(to: path("a"), maximumShardByteCount: 20_000_000, pool: pool)
      try model.writeHeaders(to: path("b"), maximumShardByteCount: 20_000_000)
      let (full, empty) = (try contents(path("a")), try contents(path("b")))
      #expect(full.count > 4 && full.keys == empty.keys)
      for (name, bytes) in full {
        let other = try #require(empty[name])
        guard name.hasSuffix(".safetensors") else {
          #expect(other == bytes, "\(name)")
          continue
        }
        #expect(other.count == bytes.count)
        let header = 8 + bytes.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
        #expect(other.prefix(header) == bytes.prefix(header))
        #expect(other.dropFirst(header).allSatisfy { $0 == 0 })
        var status = stat()
        #expect(stat(path("b/" + name), &status) == 0)
        #expect(Int(status.st_blocks) * 512 < 1 << 16, "\(name)")
      }
      #expect(
        try Checkpoint(directory: path("b")).tensors.map(\.shape)
          == Checkpoint(directory: path("a")).tensors.map(\.shape))
    }
  }

  /// Written as shards or quantized on the way, it is the same model, and it runs.
  @Test func slabIsThatOfTheCheckpoint() throws {
    try Place.withTemporaryDirectory { folder in
      func path(_ name: String) -> String { folder.appending(path: name).path }
      let assets = [SlabAsset(name: "note.txt", bytes: Array("ignored by checkpoints".utf8))]
      try model().writeCheckpoint(to: path("a"), maximumShardByteCount: 200_000, pool: pool)
      let checkpoint = try Checkpoint(directory: path("a"))
      #expect(checkpoint.weightFileNames.count > 1)
      #expect(checkpoint.tensors.allSatisfy { $0.dataType == .bf16 })
      let report = try Converter(
        checkpoint: checkpoint, recipe: .q4, calibration: .none, profile: .run, pool: pool
      ).run(to: path("a.slab"))
      let root = try model().writeSlab(to: path("b.slab"), recipe: .q4, pool: pool)
      #expect(root == report.rootDigest)
      #expect(
        try model().writeSlab(to: path("c.slab"), recipe: .q4, assets: assets, pool: pool) != root)

      let slab = try Slab(path: path("b.slab"))
      let session = try Session(model: Model(slab: slab, pool: pool, kernels: .selected()))
      let logits = try session.logits(appending: [1, 2, 3])
      #expect(logits.count == 307 && Set(logits).count > 100)
    }
  }

  @Test func weightsHaveHeavyTailsAndOutliers() throws {
    try Place.withTemporaryDirectory { folder in
      let path = folder.appending(path: "a").path
      try model().writeCheckpoint(to: path, pool: pool)
      let checkpoint = try Checkpoint(directory: path)
      let down = try checkpoint.values(named: "model.layers.0.mlp.down_proj.weight").map(
        Double.init)
      let count = Double(down.count)
      let variance = down.reduce(0) { $0 + $1 * $1 } / count
      #expect(abs(down.reduce(0, +) / count) < 0.1 * variance.squareRoot())
      #expect((0.3...1.2).contains(variance * 200))
      // 3 for a normal distribution.
      #expect(down.reduce(0) { $0 + $1 * $1 * $1 * $1 } / count / (variance * variance) > 5)
      let norm = try checkpoint.values(named: "model.layers.1.input_layernorm.weight")
      #expect(norm.count { $0 > 4 } == 1)
      #expect(norm.count { abs($0 - 1) < 0.5 } > 120)
    }
  }

  @Test func cancellingLeavesNothing() throws {
    try Place.withTemporaryDirectory { folder in
      let monitor = SyntheticModel.Monitor(isCancelled: { true })
      #expect(throws: CancellationError.self) {
        try model().writeCheckpoint(
          to: folder.appending(path: "a").path, pool: pool, monitor: monitor)
      }
      #expect(throws: CancellationError.self) {
        _ = try model().writeSlab(
          to: folder.appending(path: "a.slab").path, recipe: .q8, pool: pool, monitor: monitor)
      }
      let left = try contents(folder.path)
      #expect(left.isEmpty)
    }
  }

  @Test(arguments: Recipe.presets) func randomWeightsRun(recipe: Recipe) throws {
    let configuration = try ModelConfiguration(json: Array(Self.config.utf8))
    let weights = try RandomWeights(configuration, recipe: recipe)
    let model = try Model(
      weights: weights, assets: ModelAssets(configuration: configuration), pool: pool,
      kernels: .selected())
    let logits = try Session(model: model).logits(appending: [1, 2, 3])
    #expect(Set(logits).count > 100)
    // What a token costs, against the configuration's own sums.
    let shapes = configuration.expectedTensors.filter { $0.shape.count == 2 }
    let layers = shapes.filter { $0.name.contains("layers") }
    #expect(
      model.workload(cacheType: .f32).linearWeightCount
        == layers.reduce(0) { $0 + $1.shape[0] * $1.shape[1] })
    let embedding = PanelGeometry(rows: 307, columns: 130)!
      .byteCount(
        in: recipe.encoding(
          ofTensor: "model.embed_tokens.weight", role: .embedding, layer: nil, layerCount: 1)!)
    let vectors = configuration.expectedTensors.filter { $0.shape.count == 1 }
      .reduce(0) { $0 + 4 * $1.shape[0] }
    #expect(
      model.workload(cacheType: .f32).weightByteCount == weights.byteCount - embedding + vectors)
    #expect(model.workload(cacheType: .f32).cacheBytesPerPosition == 2 * 2 * 5 * 32 * 4)
  }
}
