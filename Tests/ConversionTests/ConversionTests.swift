import Conversion
import Foundation
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Testing

/// Conversions of the committed checkpoints, one of every supported variation, with every recipe.
@Suite struct ConversionTests {
  static let names =
    (try? FileManager.default.contentsOfDirectory(
      atPath: Place.goldens.appending(path: "checkpoints").path))?.sorted() ?? []

  static func golden(_ name: String) throws -> Checkpoint {
    try Checkpoint(directory: Place.goldens.appending(path: "checkpoints/\(name)").path)
  }

  @Test func thereAreGoldens() { #expect(Self.names.count >= 21) }

  /// The slab holds every tensor, all digests are right, and the bytes do not depend on threads.
  @Test(arguments: names, Recipe.presets) func converts(name: String, recipe: Recipe) throws {
    let checkpoint = try Self.golden(name)
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "1.slab").path
      let report = try Converter(
        checkpoint: checkpoint, recipe: recipe, calibration: .none, profile: .run,
        pool: WorkerPool(threadCount: 1)
      ).run(to: path)
      let pool = WorkerPool(threadCount: 2)
      let again = directory.appending(path: "2.slab").path
      let second = try Converter(
        checkpoint: checkpoint, recipe: recipe, calibration: .none, profile: .run, pool: pool
      ).run(to: again)
      #expect(
        try Data(contentsOf: URL(filePath: path)) == Data(contentsOf: URL(filePath: again)))
      #expect(second.rootDigest == report.rootDigest)
      if checkpoint.configuration.experts != nil {
        let third = directory.appending(path: "7.slab").path
        let report = try Converter(
          checkpoint: checkpoint, recipe: recipe, calibration: .none, profile: .run,
          pool: WorkerPool(threadCount: 7)
        ).run(to: third)
        #expect(second.rootDigest == report.rootDigest)
      }

      let slab = try Slab(path: path)
      try slab.verify(pool: pool) { _, _ in }
      #expect(slab.fileByteCount == report.fileByteCount)
      let plan = try ConversionPlan(checkpoint, recipe: recipe)
      let sizes = Converter(
        checkpoint: checkpoint, recipe: recipe, calibration: .none, profile: .run, pool: pool
      ).fileByteCounts(plan)
      // Nothing is compressed but assets and norms.
      let norms = plan.entries.reduce(0) { $0 + ($1.encoding == nil ? $1.logicalByteCount : 0) }
      #expect(sizes.contains(slab.fileByteCount))
      #expect(sizes.count <= norms + 16384 + 36 * plan.entries.count)
      #expect(
        slab.assets.map(\.bytes) == checkpoint.assets.sorted { $0.name < $1.name }.map(\.bytes))
      #expect(slab.tensors.map(\.name) == checkpoint.tensors.map(\.name))
      for tensor in checkpoint.tensors {
        let stored = try #require(slab.tensor(named: tensor.name))
        #expect(stored.shape == tensor.shape && stored.sourceType == tensor.elementType)
        let role = try #require(TensorRole(tensorName: tensor.name))
        let expected = recipe.encoding(
          ofTensor: tensor.name, role: role, layer: TensorRole.layer(ofTensor: tensor.name),
          layerCount: checkpoint.configuration.layerCount)
        #expect(stored.encoding == expected ?? .f32)
        #expect((stored.layout == .plain) == !role.isMatrix)
        try expectValues(of: tensor, in: slab, from: checkpoint, pool: pool)
      }
    }
  }

  /// Compares with what the encoding promises: exact where it can be, close where it cannot.
  private func expectValues(
    of tensor: TensorDescriptor, in slab: Slab, from checkpoint: Checkpoint, pool: WorkerPool
  ) throws {
    let source = try checkpoint.values(named: tensor.name)
    guard TensorRole(tensorName: tensor.name)?.isMatrix == true else {
      #expect(try slab.values(named: tensor.name) == source)
      return
    }
    let weights = try slab.weights(named: tensor.name, pool: pool)
    let geometry = weights.form.geometry
    let decoded = weights.matrices.flatMap { matrix in
      (0..<geometry.rows * geometry.columns).map {
        Reference.dequantize(matrix, row: $0 / geometry.columns, column: $0 % geometry.columns)
      }
    }
    switch weights.encoding {
    case .f32: #expect(decoded == source)
    case .bf16: #expect(decoded == source.map { Float(bfloat16Bits: $0.bfloat16Bits) })
    default:
      let error = zip(source, decoded).reduce(0.0) { $0 + pow(Double($1.0 - $1.1), 2) }
      let energy = source.reduce(0.0) { $0 + Double($1) * Double($1) }
      let statistics = try #require(slab.tensor(named: tensor.name)?.statistics)
      let nmse = error / energy
      #expect(abs(nmse - statistics.normalizedMeanSquaredError) <= 1e-6 * nmse)
      let limits: [BlockEncoding: Double] = [
        .q4b16: 0.008, .q4b32: 0.01, .q8b16: 5e-5, .q8b32: 6e-5,
      ]
      #expect(nmse < limits[weights.encoding]!, "\(tensor.name) as \(weights.encoding): \(nmse)")
    }
  }

  /// Both profiles are one model, and both hold no trace of where they were made.
  @Test func profilesHaveOneIdentity() throws {
    let checkpoint = try Self.golden("granite-sharded")
    try Place.withTemporaryDirectory { directory in
      var digests: [Digest] = []
      for profile in [SlabProfile.run, .ship] {
        let path = directory.appending(path: "\(profile).slab").path
        let pool = WorkerPool(threadCount: 2)
        let report = try Converter(
          checkpoint: checkpoint, recipe: .q4, calibration: .none, profile: profile, pool: pool
        ).run(to: path)
        let slab = try Slab(path: path)
        try slab.verify(pool: pool) { _, _ in }
        digests.append(report.rootDigest)
        #expect(slab.metadata["recipe"] == "q4")
        #expect(slab.metadata["source"]?.split(separator: "\n").count == 3)
        for value in slab.metadata.values { #expect(!value.contains("/")) }
      }
      #expect(digests[0] == digests[1])
    }
  }

  /// Layers ascending by number, one-dimensional tensors, output, embedding.
  @Test func planOrder() throws {
    let names = try ConversionPlan(try Self.golden("granite-untied"), recipe: .q8).entries.map(
      \.tensor.name)
    #expect(names.first == "model.layers.0.self_attn.q_proj.weight")
    #expect(names.suffix(2) == ["lm_head.weight", "model.embed_tokens.weight"])
    let pebble = try ConversionPlan(
      try Checkpoint(directory: Pebble.directory.path), recipe: .q4)
    #expect(
      pebble.steps.map(\.kind) == (0..<8).map { .layer($0) } + [.vectors, .embedding])
    for step in pebble.steps {
      switch step.kind {
      case .layer(let layer):
        #expect(
          step.entries.map(\.role) == [
            .query, .key, .value, .attentionOutput, .gate, .up, .down,
          ])
        #expect(step.entries.allSatisfy { $0.layer == layer && $0.ruleIndex == 2 })
      case .vectors:
        #expect(step.entries.allSatisfy { $0.role == .norm && $0.ruleIndex == nil })
        #expect(step.entries.last?.layer == nil && step.entries.first?.layer == 0)
      case .output, .embedding:
        #expect(step.entries.map(\.role) == [.embedding] && step.entries[0].ruleIndex == 1)
      }
    }
  }

  @Test func rolesOfNames() {
    let names: [(String, TensorRole?, Int?)] = [
      ("model.embed_tokens.weight", .embedding, nil), ("lm_head.weight", .output, nil),
      ("model.norm.weight", .norm, nil), ("model.layers.3.input_layernorm.weight", .norm, 3),
      ("model.layers.0.self_attn.q_proj.weight", .query, 0),
      ("model.layers.0.self_attn.k_proj.weight", .key, 0),
      ("model.layers.0.self_attn.v_proj.weight", .value, 0),
      ("model.layers.39.self_attn.o_proj.weight", .attentionOutput, 39),
      ("model.layers.3.self_attn.o_proj.bias", .bias, 3),
      ("model.layers.3.mlp.gate_proj.weight", .gate, 3),
      ("model.layers.3.mlp.up_proj.weight", .up, 3), ("model.layers.3.mlp.up_proj.bias", .bias, 3),
      ("model.layers.3.mlp.down_proj.weight", .down, 3),
      ("model.layers.3.shared_mlp.input_linear.weight", .gateUp, 3),
      ("model.layers.3.shared_mlp.output_linear.weight", .down, 3),
      ("model.layers.3.mamba.in_proj.weight", .mambaInput, 3),
      ("model.layers.3.mamba.out_proj.weight", .mambaOutput, 3),
      ("model.layers.3.mamba.conv1d.weight", .convolution, 3),
      ("model.layers.3.mamba.conv1d.bias", .bias, 3),
      ("model.layers.3.mamba.A_log", .stateSpace, 3),
      ("model.layers.3.mamba.D", .stateSpace, 3), ("model.layers.3.mamba.dt_bias", .stateSpace, 3),
      ("model.layers.3.mamba.norm.weight", .norm, 3), ("", nil, nil), ("weight", nil, nil),
      (".", nil, nil), ("model.layers.x.y.weight", nil, nil), ("model.layers.3", nil, nil),
    ]
    for (name, role, layer) in names {
      #expect(TensorRole(tensorName: name) == role, "\(name)")
      #expect(TensorRole.layer(ofTensor: name) == layer, "\(name)")
    }
  }
}
