import Foundation
import Inference
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Testing
import Tokenization

@testable import Conversion

/// Conversions to a size, of the bundled model.
@Suite(.serialized) struct TargetTests {
  private static let pool = WorkerPool(threadCount: ProcessInfo.processInfo.activeProcessorCount)
  private static let costs = Result {
    try CostMeasurement(
      checkpoint: Checkpoint(directory: Pebble.directory.path), calibration: .bundled, pool: pool
    ).run()
  }

  private func convert<R>(
    _ recipe: Recipe, _ calibration: Calibration = .bundled,
    _ body: (_ slab: Slab, _ report: ConversionReport) throws -> R
  ) throws -> R {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "model.slab").path
      let report = try Converter(
        checkpoint: Checkpoint(directory: Pebble.directory.path), recipe: recipe,
        calibration: calibration, profile: .run, pool: Self.pool
      ).run(to: path)
      return try body(Slab(path: path), report)
    }
  }

  @Test(arguments: [4.7, 5.5, 7.3]) func keepsWithinBitsPerWeight(bits: Double) throws {
    let choice = try Self.costs.get().choice(for: .bitsPerWeight(bits))
    #expect(choice.bitsPerWeight <= bits && choice.bitsPerWeight > bits - 0.05)
    let recipe = choice.recipe(named: "t")
    try convert(recipe) { slab, report in
      // The report's bits are those of the tensors of the checkpoint, without column scales.
      #expect(report.bitsPerWeight <= choice.bitsPerWeight)
      #expect(report.bitsPerWeight > choice.bitsPerWeight - 0.07)
      for tensor in slab.tensors where tensor.shape.count == 2 {
        #expect(tensor.encoding == choice.encodings[tensor.name])
      }
    }
    #expect(try Recipe(yaml: Array(recipe.yaml.utf8), path: "t").rules == recipe.rules)
  }

  @Test(arguments: [5_000_000, 5_600_000, 6_500_000, 8_000_000]) func keepsWithinAFileSize(
    bytes: Int
  ) throws {
    let costs = try Self.costs.get()
    let choice = try costs.choice(for: .fileByteCount(bytes))
    try convert(choice.recipe(named: "t")) { slab, _ in
      #expect(slab.fileByteCount <= bytes)
      // Some inputs turn out to need no column scales.
      let scales = slab.tensors.filter { $0.name.hasSuffix(".column_scales") }
        .reduce(0) { $0 + $1.elementCount }
      let spared = 4 * (costs.columnScaleCount - scales)
      #expect(spared >= 0 && slab.fileByteCount + spared > bytes - bytes / 100)
    }
  }

  /// Without a text errors count as they are: weighted by statistics, or not at all.
  @Test func errorsCountAlikeWithoutAText() throws {
    let checkpoint = try Checkpoint(directory: Pebble.directory.path)
    let statistics = try ImportanceStatistics.gather(
      checkpoint, calibration: Calibration(.bundled, tokenCount: 512), pool: Self.pool)
    let recipe = Recipe(name: "t", rules: [Recipe.Rule(encoding: .q4b16)])
    for calibration in [Calibration.none, Calibration(.statistics(statistics))] {
      let costs = try CostMeasurement(
        checkpoint: checkpoint, calibration: calibration, pool: Self.pool
      ).run()
      try convert(recipe, calibration) { slab, _ in
        for matrix in costs.groups.joined() {
          let errors = try #require(slab.tensor(named: matrix.entry.tensor.name)?.statistics)
          #expect(
            matrix.costs[.q4b16]
              == (calibration.isWanted ? errors.weightedError : errors.normalizedMeanSquaredError))
        }
      }
    }
  }

  @Test func impossibleSizes() throws {
    let costs = try Self.costs.get()
    for bits in [1.0, 12] {
      let error = #expect(throws: TargetError.self) { try costs.choice(for: .bitsPerWeight(bits)) }
      guard case .bitsPerWeight(bits, let possible) = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
      for bound in [possible.lowerBound, possible.upperBound] {
        let choice = try costs.choice(for: .bitsPerWeight(bound + 1e-9))
        #expect(abs(choice.bitsPerWeight - bound) < 0.01)
      }
      #expect(error?.description.contains("this model has from 4.") == true)
    }
    let error = #expect(throws: TargetError.self) { try costs.choice(for: .fileByteCount(100)) }
    guard case .fileByteCount(100, let possible) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(throws: Never.self) { try costs.choice(for: .fileByteCount(possible.lowerBound)) }
    #expect(throws: TargetError.self) {
      try costs.choice(for: .fileByteCount(possible.lowerBound - 1))
    }
  }

  /// More bits never do more damage, and the damage of a uniform recipe at its own size is not less.
  @Test func costsFallWithSize() throws {
    let costs = try Self.costs.get()
    var last = Double.infinity
    for bits in [4.5, 4.6, 5, 6, 7, 8] {
      let damage = try #require(
        costs.choice(for: .bitsPerWeight(bits)).damage(relativeTo: .q4s))
      #expect(damage <= last * 1.0001)
      last = damage
    }
  }

  /// Nothing is predicted to be worse than a preset of the same size.
  @Test(arguments: [Recipe.q4, .q4s, .q8s, .q8]) func isNoWorseThanAPreset(preset: Recipe) throws {
    let costs = try Self.costs.get()
    var encodings: [String: BlockEncoding] = [:]
    for entry in costs.plan.entries where entry.role.isMatrix {
      encodings[entry.tensor.name] = preset.encoding(
        ofTensor: entry.tensor.name, role: entry.role, layer: entry.layer,
        layerCount: costs.layerCount)
    }
    let sizes = TargetSizes(costs, .bitsPerWeight(5))
    let bits =
      Double(sizes.logicalByteCount(encodings)) * 8 / Double(costs.plan.weightCount)
    let choice = try costs.choice(for: .bitsPerWeight(bits + 1e-9))
    #expect(try #require(choice.damage(relativeTo: preset)) <= 1)
  }

  /// At the size of a preset the chosen encodings are closer to the original. At that of `q4s` there is
  /// nothing to choose: all its matrices but the embedding have the smallest encoding already.
  ///
  /// - Parameter share: of the preset's divergence, more than what is found; the standard error is 2 %.
  @Test(arguments: [(Recipe.q4, 1.0), (.balanced, 0.8)])
  func beatsAPresetOfItsSize(preset: Recipe, share: Double) throws {
    let text = try String(
      contentsOf: Place.goldens.appending(path: "text/quarry-handbook.txt"), encoding: .utf8)
    let reference = try Model(
      checkpoint: Checkpoint(directory: Pebble.directory.path), pool: Self.pool,
      kernels: .selected())
    func divergence(_ recipe: Recipe) throws -> (Double, byteCount: Int) {
      try convert(recipe) { slab, _ in
        let model = try Model(slab: slab, pool: Self.pool, kernels: .selected())
        let windows = TokenWindows(try model.tokenizer!.encode(text), limit: 8)
        let result = try Evaluation(
          of: Session(model: model, activations: .f32),
          reference: Session(model: reference, activations: .f32), on: windows)
        return (result.divergence!.mean.mean, slab.tensors.reduce(0) { $0 + $1.logicalByteCount })
      }
    }
    let uniform = try divergence(preset)
    let weights = try Self.costs.get().plan.weightCount
    let bits = Double(uniform.byteCount) * 8 / Double(weights)
    let choice = try Self.costs.get().choice(for: .bitsPerWeight(bits))
    let chosen = try divergence(choice.recipe(named: "t"))
    print("\(preset) at \(bits) bits: KL \(uniform.0), chosen for the size \(chosen.0)")
    #expect(chosen.byteCount <= uniform.byteCount)
    #expect(chosen.0 < share * uniform.0)
  }
}
