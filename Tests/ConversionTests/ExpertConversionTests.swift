import Foundation
import Inference
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Testing

@testable import Conversion

/// Mixtures of experts on their way from a checkpoint to slabs and out again.
@Suite(.serialized) struct ExpertConversionTests {
  private static let (experts, used, hidden, inner, layers) = (24, 2, 64, 24, 2)
  private static let pool = WorkerPool(threadCount: 2)
  private static let text = Calibration(.bundled, tokenCount: 600)

  /// Calls `body` with a checkpoint of random weights that has Pebble's tokenizer.
  private func withCheckpoint<R>(
    _ body: (_ checkpoint: Checkpoint, _ directory: URL) throws -> R
  ) throws -> R {
    let assets = try Checkpoint.assets(directory: Pebble.directory.path)
    let pebble = try ModelConfiguration(json: assets.first { $0.name == "config.json" }!.bytes)
    let json = """
      {"model_type": "granitemoeshared", "hidden_size": \(Self.hidden),
       "intermediate_size": \(Self.inner), "shared_intermediate_size": 40,
       "num_local_experts": \(Self.experts), "num_experts_per_tok": \(Self.used),
       "num_hidden_layers": \(Self.layers), "num_attention_heads": 4, "num_key_value_heads": 2,
       "vocab_size": \(pebble.vocabularySize), "max_position_embeddings": 512,
       "tie_word_embeddings": true, "embedding_multiplier": 12.0, "attention_multiplier": 0.06,
       "residual_multiplier": 0.22, "logits_scaling": 6.0, "eos_token_id": 0}
      """
    return try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "checkpoint").path
      try SyntheticModel(configuration: Array(json.utf8), seed: 3).writeCheckpoint(
        to: path,
        assets: assets.filter { ["tokenizer.json", "tokenizer_config.json"].contains($0.name) },
        pool: Self.pool)
      return try body(Checkpoint(directory: path), directory)
    }
  }

  private func convert(
    _ checkpoint: Checkpoint, _ recipe: Recipe, _ calibration: Calibration, to path: URL,
    threads: Int = 2
  ) throws -> ConversionReport {
    try Converter(
      checkpoint: checkpoint, recipe: recipe, calibration: calibration, profile: .run,
      pool: WorkerPool(threadCount: threads), replacing: true
    ).run(to: path.path)
  }

  @Test func calibratedBytesDoNotDependOnThreads() throws {
    try withCheckpoint { checkpoint, directory in
      var files: [Data] = []
      let path = directory.appending(path: "a.slab")
      for threads in [1, 2, 7] {
        let report = try convert(checkpoint, .q4, Self.text, to: path, threads: threads)
        guard case .done(_, _, let rare) = report.calibration else {
          Issue.record("\(report.calibration)")
          return
        }
        #expect(rare.values.allSatisfy { (1...Self.experts).contains($0) })
        files.append(try Data(contentsOf: path))
      }
      #expect(files[1] == files[0] && files[2] == files[0])
      let slab = try Slab(path: path.path)
      try slab.verify(pool: Self.pool)
      let plan = try ConversionPlan(checkpoint, recipe: .q4)
      let converter = Converter(
        checkpoint: checkpoint, recipe: .q4, calibration: Self.text, profile: .run, pool: Self.pool)
      #expect(converter.fileByteCounts(plan).contains(slab.fileByteCount))
      for layer in 0..<Self.layers {
        let prefix = "model.layers.\(layer)."
        func tensor(_ name: String) throws -> SlabTensor {
          try #require(slab.tensor(named: prefix + name))
        }
        #expect(try tensor("block_sparse_moe.router.layer.weight").encoding == .f32)
        let gateUp = try tensor("block_sparse_moe.input_linear.weight")
        #expect(gateUp.encoding == .q4b16)
        #expect(gateUp.shape == [Self.experts, 2 * Self.inner, Self.hidden])
        // All that read the layer's input share its column scales.
        #expect(try gateUp.columnScales == tensor("shared_mlp.input_linear.weight").columnScales)
        let down = try tensor("block_sparse_moe.output_linear.weight")
        #expect(down.columnScales == nil && down.statistics?.weightedError != nil)
        // Every expert has a codebook of its own.
        let weights = try slab.weights(named: gateUp.name, pool: Self.pool)
        #expect(Set(weights.matrices.map { Array($0.codebook) }).count > Self.experts / 2)
      }
      let comparison = try SourceComparison.compare(slab, with: checkpoint, pool: Self.pool)
      #expect(comparison?.faults == [])
      #expect(comparison?.tensorCount == checkpoint.tensors.count)
    }
  }

  /// A conversion keeps what experts saw of their own for one layer at a time.
  @Test func earlierExpertsAreForgotten() throws {
    try withCheckpoint { checkpoint, _ in
      guard case .source(let source) = try PreparedCalibration(Self.text, of: checkpoint) else {
        Issue.record("the checkpoint has a tokenizer")
        return
      }
      let calibrator = try Calibrator(
        checkpoint, source: source, pool: Self.pool, isCancelled: { false })
      let all = try ImportanceStatistics.gather(
        checkpoint, calibration: Self.text, pool: Self.pool)
      for layer in 0..<Self.layers {
        try calibrator.advance(to: .layer(layer))
        let kept = calibrator.statistics.moments
        for name in kept.keys where ImportanceStatistics.isInputOfExperts(name) {
          #expect(name.hasPrefix("model.layers.\(layer)."))
        }
        for (name, values) in kept { #expect(all.moments[name] == values) }
        #expect(kept.keys.count { $0.hasPrefix("model.layers.\(layer).experts.") } == 3)
      }
      #expect(calibrator.statistics.rareExperts == all.rareExperts)
    }
  }

  /// What an expert saw, with the layer's input where it saw little.
  @Test func statisticsFallBackToTheLayer() throws {
    try withCheckpoint { checkpoint, directory in
      let statistics = try ImportanceStatistics.gather(
        checkpoint, calibration: Self.text, pool: Self.pool)
      let few = try ImportanceStatistics.gather(
        checkpoint, calibration: Calibration(.text("stone"), tokenCount: 1), pool: Self.pool)
      for layer in 0..<Self.layers {
        let prefix = "model.layers.\(layer)."
        func moments(_ name: String, _ from: ImportanceStatistics) throws -> [Float] {
          try #require(from.moments[prefix + name])
        }
        #expect(
          try moments("experts.tokens", statistics).reduce(0, +) == Float(600 * Self.used))
        let tokens = try moments("experts.tokens", few)
        #expect(tokens.reduce(0, +) == Float(Self.used) && tokens.max() == 1)
        #expect(few.rareExperts[prefix + "experts.tokens"] == Self.experts)
        let (all, own) = (
          try moments("mlp.input", few), try moments("experts.input", few)
        )
        let down = try moments("experts.down_proj.input", few)
        let unseen = tokens.firstIndex(of: 0)!
        #expect(Array(own[unseen * Self.hidden..<(unseen + 1) * Self.hidden]) == all)
        // The only token is what all experts saw.
        let seen = tokens.firstIndex(of: 1)!
        for (a, b) in zip(own[seen * Self.hidden..<(seen + 1) * Self.hidden], all) {
          #expect(abs(a - b) <= 1e-6 * b)
        }
        // Of what its down projection reads, the mean of those that saw one.
        let used = tokens.indices.filter { tokens[$0] > 0 }
        let mean = (0..<Self.inner).map { column in
          down[unseen * Self.inner + column]
        }
        #expect(mean.allSatisfy { $0 > 0 } && used.count == Self.used)
      }
      let file = directory.appending(path: "statistics.safetensors").path
      try statistics.write(to: file)
      #expect(try ImportanceStatistics(path: file) == statistics)
      let paths = ["a.slab", "b.slab"].map { directory.appending(path: $0) }
      _ = try convert(checkpoint, .q4, Self.text, to: paths[0])
      _ = try convert(
        checkpoint, .q4, Calibration(.statistics(ImportanceStatistics(path: file))), to: paths[1])
      #expect(try Data(contentsOf: paths[0]) == Data(contentsOf: paths[1]))
      // Those of a model without experts are another model's.
      var other = statistics
      other.moments = other.moments.filter { !$0.key.contains(".experts.") }
      #expect(throws: ConversionError.self) {
        try convert(checkpoint, .q4, Calibration(.statistics(other)), to: paths[1])
      }
    }
  }

  @Test func choosesEncodingsForASize() throws {
    try withCheckpoint { checkpoint, directory in
      let measurement = CostMeasurement(
        checkpoint: checkpoint, calibration: Self.text, pool: Self.pool)
      try measurement.check(.bitsPerWeight(6.5))
      let choice = try measurement.run().choice(for: .bitsPerWeight(6.5))
      #expect(choice.bitsPerWeight <= 6.5)
      let path = directory.appending(path: "a.slab")
      _ = try convert(checkpoint, choice.recipe, Self.text, to: path)
      let slab = try Slab(path: path.path)
      for tensor in slab.tensors where tensor.layout == .panel16 {
        let isRouter = TensorRole(tensorName: tensor.name) == .router
        #expect(tensor.encoding == (isRouter ? .f32 : choice.encodings[tensor.name]))
      }
    }
  }

  @Test func comesBackAsACheckpoint() throws {
    try withCheckpoint { checkpoint, directory in
      let path = directory.appending(path: "a.slab")
      _ = try convert(checkpoint, .f32, .none, to: path)
      let slab = try Slab(path: path.path)
      let out = directory.appending(path: "out").path
      try CheckpointExport.write(slab, to: out, as: .bf16, pool: Self.pool)
      let back = try Checkpoint(directory: out)
      for tensor in checkpoint.tensors {
        #expect(back.descriptor(named: tensor.name)?.shape == tensor.shape)
        #expect(try back.values(named: tensor.name) == checkpoint.values(named: tensor.name))
      }
      // As it is and as a slab it computes the same.
      let kernels = try Kernels.selected()
      let tokens: [Int32] = [3, 1, 4, 1, 5, 9, 2, 6]
      let logits = try [
        Model(checkpoint: checkpoint, pool: Self.pool, kernels: kernels),
        Model(slab: slab, pool: Self.pool, kernels: kernels),
      ].map { try Session(model: $0).logits(appending: tokens) }
      #expect(logits[0] == logits[1])
    }
  }
}
