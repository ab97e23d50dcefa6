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

  @Test func thereAreGoldens() { #expect(Self.names.count >= 13) }

  /// The slab holds every tensor, all digests are right, and the bytes do not depend on threads.
  @Test(arguments: names, Recipe.allCases) func converts(name: String, recipe: Recipe) throws {
    let checkpoint = try Self.golden(name)
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "1.slab").path
      let report = try Converter(
        checkpoint: checkpoint, recipe: recipe, profile: .run, pool: WorkerPool(threadCount: 1)
      ).run(to: path)
      let pool = WorkerPool(threadCount: 2)
      let again = directory.appending(path: "2.slab").path
      let second = try Converter(
        checkpoint: checkpoint, recipe: recipe, profile: .run, pool: pool
      ).run(to: again)
      #expect(
        try Data(contentsOf: URL(filePath: path)) == Data(contentsOf: URL(filePath: again)))
      #expect(second.rootDigest == report.rootDigest)

      let slab = try Slab(path: path)
      try slab.verify(pool: pool) { _, _ in }
      #expect(slab.fileByteCount == report.fileByteCount)
      let plan = ConversionPlan(checkpoint, recipe: recipe)
      #expect(slab.fileByteCount <= plan.maximumFileByteCount)
      #expect(
        slab.assets.map(\.bytes) == checkpoint.assets.sorted { $0.name < $1.name }.map(\.bytes))
      #expect(slab.tensors.map(\.name) == checkpoint.tensors.map(\.name))
      for tensor in checkpoint.tensors {
        let stored = try #require(slab.tensor(named: tensor.name))
        #expect(stored.shape == tensor.shape && stored.sourceType == tensor.elementType)
        let role = try #require(TensorRole(tensorName: tensor.name))
        #expect(stored.encoding == recipe.encoding(for: role) ?? .f32)
        #expect((stored.layout == .plain) == (tensor.shape.count == 1))
        try expectValues(of: tensor, in: slab, from: checkpoint, pool: pool)
      }
    }
  }

  /// Compares with what the encoding promises: exact where it can be, close where it cannot.
  private func expectValues(
    of tensor: TensorDescriptor, in slab: Slab, from checkpoint: Checkpoint, pool: WorkerPool
  ) throws {
    let source = try checkpoint.values(named: tensor.name)
    guard tensor.shape.count == 2 else {
      #expect(try slab.values(named: tensor.name) == source)
      return
    }
    let matrix = try slab.matrix(named: tensor.name, pool: pool)
    let decoded = (0..<source.count).map {
      Reference.dequantize(matrix, row: $0 / tensor.shape[1], column: $0 % tensor.shape[1])
    }
    switch matrix.encoding {
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
      #expect(nmse < limits[matrix.encoding]!, "\(tensor.name) as \(matrix.encoding): \(nmse)")
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
          checkpoint: checkpoint, recipe: .q4, profile: profile, pool: pool
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
    let names = ConversionPlan(try Self.golden("granite-untied"), recipe: .q8).entries.map(
      \.tensor.name)
    #expect(names.first == "model.layers.0.self_attn.q_proj.weight")
    #expect(names.suffix(2) == ["lm_head.weight", "model.embed_tokens.weight"])
    let pebble = ConversionPlan(
      try Checkpoint(directory: Pebble.directory.path), recipe: .q4)
    let roles = pebble.entries.map(\.role)
    let firstPlain = try #require(roles.firstIndex(of: .norm))
    #expect(roles[..<firstPlain].allSatisfy { $0 == .attention || $0 == .mlp })
    #expect(roles[firstPlain...].dropLast().allSatisfy { $0 == .norm })
    #expect(roles.last == .embedding)
    let layers = pebble.entries[..<firstPlain].compactMap {
      Int($0.tensor.name.split(separator: ".")[2])
    }
    #expect(layers == layers.sorted() && Set(layers) == Set(0..<8))
  }

  @Test func rolesOfNames() {
    let names: [(String, TensorRole?)] = [
      ("model.embed_tokens.weight", .embedding), ("lm_head.weight", .output),
      ("model.norm.weight", .norm), ("model.layers.3.input_layernorm.weight", .norm),
      ("model.layers.3.self_attn.o_proj.weight", .attention),
      ("model.layers.3.self_attn.o_proj.bias", .bias),
      ("model.layers.3.mlp.up_proj.weight", .mlp), ("model.layers.3.mlp.up_proj.bias", .bias),
      ("model.layers.3.shared_mlp.input_linear.weight", .mlp),
      ("model.layers.3.mamba.in_proj.weight", nil), ("", nil), ("weight", nil), (".", nil),
    ]
    for (name, role) in names { #expect(TensorRole(tensorName: name) == role, "\(name)") }
  }
}
