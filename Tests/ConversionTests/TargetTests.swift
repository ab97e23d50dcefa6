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
    let recipe = choice.recipe
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
    try convert(choice.recipe) { slab, _ in
      #expect(slab.fileByteCount <= bytes)
      #expect(slab.fileByteCount > bytes - bytes / 100)
      let predicted = costs.size(choice.recipe)
      #expect(slab.fileByteCount <= predicted.byteCount)
      #expect(slab.fileByteCount > predicted.byteCount - 20_000)
    }
  }

  /// Where all that reads an input has one encoding, nothing about a slab is unknown.
  @Test(arguments: [Recipe.q4s, .q4, .q8]) func theSizeOfAPresetIsKnown(preset: Recipe) throws {
    let costs = try Self.costs.get()
    let predicted = costs.size(preset)
    try convert(preset) { slab, _ in
      #expect(predicted.byteCount == slab.fileByteCount)
      #expect(
        predicted.logicalByteCount == slab.tensors.reduce(0) { $0 + $1.logicalByteCount })
    }
    // At its size nothing worse is chosen; the recipe that is written has its name, so that the same
    // slab comes of it.
    let choice = try costs.choice(for: .fileByteCount(predicted.byteCount))
    #expect(try #require(choice.damage(relativeTo: preset)) <= 1)
    let recipe = choice.recipe
    #expect(try Recipe(yaml: Array(recipe.yaml.utf8), path: "t") == recipe)
    #expect(costs.size(recipe).byteCount <= predicted.byteCount)
    if preset == .q4s {
      #expect(recipe == preset)
      let below = try costs.choice(for: .fileByteCount(predicted.byteCount - 1))
      #expect(below.recipe != preset)
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
    let bits = Double(costs.size(preset).logicalByteCount) * 8 / Double(costs.plan.weightCount)
    let choice = try costs.choice(for: .bitsPerWeight(bits + 1e-9))
    #expect(try #require(choice.damage(relativeTo: preset)) <= 1)
  }

  /// At the size of a preset the chosen encodings are closer to the original. At that of `q4s` there is
  /// nothing to choose: all its matrices but the embedding have the smallest encoding already.
  ///
  /// - Parameter share: of the preset's divergence, more than what is found; the standard error is 2 %.
  @Test(arguments: [(Recipe.q4, 1.0), (.balanced, 0.8)])
  func beatsAPresetOfItsSize(preset: Recipe, share: Double) throws {
    let costs = try Self.costs.get()
    let byteCount = costs.size(preset).logicalByteCount
    let bits = Double(byteCount) * 8 / Double(costs.plan.weightCount)
    let choice = try costs.choice(for: .bitsPerWeight(bits))
    #expect(costs.size(choice.recipe).logicalByteCount <= byteCount)
    try expectLess(choice, preset, share)
  }

  /// The same for the size of its file. Behind most of this model's matrices in 4-bit blocks of 32 there is
  /// room for those of 16, before the next segment begins: with 2 KB more than `q4s`, for the rules,
  /// that is used.
  @Test(arguments: [(Recipe.q4s, 2_000, 0.9), (.q4, 0, 1.0), (.balanced, 0, 0.8)])
  func beatsAPresetOfItsFileSize(preset: Recipe, more: Int, share: Double) throws {
    let costs = try Self.costs.get()
    let choice = try costs.choice(for: .fileByteCount(costs.size(preset).byteCount + more))
    try expectLess(choice, preset, share)
  }

  /// Expects the KL divergence of a choice to be less than a share of a preset's.
  private func expectLess(_ choice: TargetChoice, _ preset: Recipe, _ share: Double) throws {
    let text = try String(
      contentsOf: Place.goldens.appending(path: "text/quarry-handbook.txt"), encoding: .utf8)
    let reference = try Model(
      checkpoint: Checkpoint(directory: Pebble.directory.path), pool: Self.pool,
      kernels: .selected())
    func divergence(_ recipe: Recipe) throws -> Double {
      try convert(recipe) { slab, _ in
        let model = try Model(slab: slab, pool: Self.pool, kernels: .selected())
        let windows = TokenWindows(try model.tokenizer!.encode(text), limit: 8)
        return try Evaluation(
          of: Session(model: model, activations: .f32),
          reference: Session(model: reference, activations: .f32), on: windows
        ).divergence!.mean.mean
      }
    }
    let (uniform, chosen) = (try divergence(preset), try divergence(choice.recipe))
    print("KL divergence of \(preset) \(uniform), chosen for \(choice.target.name) \(chosen)")
    #expect(chosen < share * uniform)
  }
}
