import Conversion
import Foundation
import ModelFiles
import TensorCore
import TestSupport
import Testing

/// What `quarry verify --source` finds.
@Suite struct SourceComparisonTests {
  private static let pool = WorkerPool(threadCount: 2)

  private static func convert(
    _ checkpoint: Checkpoint, _ recipe: Recipe, profile: SlabProfile = .run, to path: String
  ) throws -> Slab {
    _ = try Converter(
      checkpoint: checkpoint, recipe: recipe, profile: profile, pool: pool, replacing: true
    ).run(to: path)
    return try Slab(path: path)
  }

  @Test(arguments: ["granite-tied", "granite-head80", "granite-biases"], SlabProfile.allCases)
  func everyConversionIsAsCloseAsRecorded(name: String, profile: SlabProfile) throws {
    let checkpoint = try ConversionTests.golden(name)
    try Place.withTemporaryDirectory { directory in
      for recipe in Recipe.presets {
        let slab = try Self.convert(
          checkpoint, recipe, profile: profile, to: directory.appending(path: "a.slab").path)
        var last = (0, 1)
        let result = try #require(
          try SourceComparison.compare(slab, with: checkpoint, pool: Self.pool) { last = ($0, $1) })
        #expect(result.faults == [], "\(recipe)")
        #expect(result.tensorCount == checkpoint.tensors.count)
        #expect(last.0 == last.1)
      }
      let slab = try Slab(path: directory.appending(path: "a.slab").path)
      #expect(
        try SourceComparison.compare(
          slab, with: checkpoint, pool: Self.pool, isCancelled: { true }) == nil)
    }
  }

  /// One weight of each tensor differs, by more than quantizing did.
  @Test func whatDiffersIsNamed() throws {
    try Place.withTemporaryDirectory { directory in
      let copy = directory.appending(path: "copy")
      try FileManager.default.copyItem(
        at: Place.goldens.appending(path: "checkpoints/granite-tied"), to: copy)
      let slab = try Self.convert(
        Checkpoint(directory: copy.path), .q4, to: directory.appending(path: "a.slab").path)
      let url = copy.appending(path: "model.safetensors")
      let original = try Data(contentsOf: url)
      for tensor in try Checkpoint(directory: copy.path).tensors {
        var bytes = original
        let start = tensor.byteRange.lowerBound
        bytes.replaceSubrange(start..<start + 4, with: withUnsafeBytes(of: Float(9)) { Data($0) })
        try bytes.write(to: url)
        let result = try #require(
          try SourceComparison.compare(
            slab, with: Checkpoint(directory: copy.path), pool: Self.pool))
        #expect(result.faults.map(\.name) == [tensor.name])
        if tensor.shape.count == 2 {
          let fault = try #require(result.faults.first)
          #expect(fault.found!.maximumAbsoluteError > fault.recorded!.maximumAbsoluteError)
        }
      }
      try original.write(to: url)
      let generation = copy.appending(path: "generation_config.json")
      try (Data(contentsOf: generation) + Data("\n".utf8)).write(to: generation)
      let result = try #require(
        try SourceComparison.compare(
          slab, with: Checkpoint(directory: copy.path), pool: Self.pool))
      #expect(result.faults.map(\.name) == ["generation_config.json"])
    }
  }

  /// Another model altogether: shapes and names are compared before values.
  @Test func anotherModel() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = try Self.convert(
        ConversionTests.golden("granite-tied"), .q8, to: directory.appending(path: "a.slab").path)
      let result = try #require(
        try SourceComparison.compare(
          slab, with: ConversionTests.golden("granite-biases"), pool: Self.pool))
      #expect(result.faults.contains { $0.reason.contains("no such tensor") })
      #expect(
        result.faults.contains { $0.reason.contains("the shape is") } || result.faults.count > 5)
    }
  }
}
