import Conversion
import Foundation
import ModelFiles
import Pebble
import Synchronization
import TensorCore
import TestSupport
import Testing

/// Conversions that end without a slab leave nothing behind and harm nothing.
@Suite struct ConversionFailureTests {
  private func files(in directory: URL) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
  }

  private func converter(
    _ checkpoint: Checkpoint, _ recipe: Recipe = .q4, replacing: Bool = false,
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) -> Converter {
    var converter = Converter(
      checkpoint: checkpoint, recipe: recipe, calibration: .none, profile: .run,
      pool: WorkerPool(threadCount: 2),
      replacing: replacing, isCancelled: isCancelled)
    converter.recordInterval = .seconds(3600)  // nothing is kept
    return converter
  }

  @Test(arguments: [0, 1, 7, 20]) func cancelledLeavesNothing(after count: Int) throws {
    let checkpoint = try ConversionTests.golden("granite-tied")
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "out.slab")
      let calls = Atomic(0)
      let error = try #require(throws: ConversionError.self) {
        try converter(checkpoint) {
          calls.wrappingAdd(1, ordering: .relaxed).oldValue >= count
        }.run(to: path.path)
      }
      #expect(error == .cancelled(path: path.path))
      #expect("\(error)".contains("cancelled"))
      #expect(try files(in: directory).isEmpty)

      // What was there before stays as it was.
      try Data([1, 2, 3]).write(to: path)
      #expect(throws: ConversionError.self) {
        try converter(checkpoint, replacing: true) { true }.run(to: path.path)
      }
      #expect(try Data(contentsOf: path) == Data([1, 2, 3]))
      #expect(try files(in: directory) == ["out.slab"])
    }
  }

  /// Between two tensors there are many more questions than one.
  @Test(arguments: [SlabProfile.run, .ship])
  func cancelledInTheMiddleOfATensor(profile: SlabProfile) throws {
    let checkpoint = try ConversionTests.golden("granite-tied")
    let largest = try #require(checkpoint.tensors.max { $0.byteCount < $1.byteCount })
    try Place.withTemporaryDirectory { directory in
      let last = Mutex<String?>(nil)
      let calls = Atomic(0)
      var converter = Converter(
        checkpoint: checkpoint, recipe: .q8, calibration: .none, profile: profile,
        pool: WorkerPool(threadCount: 2),
        progress: { step in
          if case .encoding(let tensor) = step.stage { last.withLock { $0 = tensor } }
        },
        isCancelled: {
          last.withLock({ $0 }) == largest.name
            && calls.add(1, ordering: .relaxed).newValue == 3
        })
      converter.recordInterval = .seconds(3600)
      let path = directory.appending(path: "out.slab").path
      let error = #expect(throws: ConversionError.self) { try converter.run(to: path) }
      #expect(error == .cancelled(path: path))
      #expect(last.withLock { $0 } == largest.name)
      let left = try files(in: directory)
      #expect(left.isEmpty)
    }
  }

  /// What was done before is kept, and the next conversion ends with the same file.
  @Test(arguments: 1...9) func cancelledBehindAStepGoesOn(steps: Int) throws {
    let checkpoint = try Checkpoint(directory: Pebble.directory.path)
    let plan = try ConversionPlan(checkpoint, recipe: .q4)
    let count = plan.steps.prefix(steps).reduce(0) { $0 + $1.entries.count }
    try Place.withTemporaryDirectory { directory in
      func run(_ name: String, upTo limit: Int) throws -> ConversionReport {
        let done = Atomic(0)
        var converter = Converter(
          checkpoint: checkpoint, recipe: .q4, profile: .run, pool: WorkerPool(threadCount: 2),
          progress: { done.store($0.doneTensorCount, ordering: .relaxed) },
          isCancelled: { done.load(ordering: .relaxed) > limit })
        converter.recordInterval = .zero
        return try converter.run(to: directory.appending(path: name).path)
      }
      let whole = try run("whole.slab", upTo: .max)
      let error = #expect(throws: ConversionError.self) { try run("a.slab", upTo: count) }
      let summary = "\(min(steps, 8)) of 8 layers"
      let path = directory.appending(path: "a.slab").path
      #expect(error == .suspended(.cancelled(path: path), path: path, kept: summary))
      #expect(
        try files(in: directory) == ["a.slab.journal", "a.slab.partial", "whole.slab"])
      let resumed = try run("a.slab", upTo: .max)
      #expect(resumed.resumedAfter == summary)
      #expect(
        try Data(contentsOf: URL(filePath: path))
          == Data(contentsOf: directory.appending(path: "whole.slab")))
      // The report counts what was done before.
      #expect(resumed.weightCount == whole.weightCount)
      #expect(resumed.calibration == whole.calibration)
      for (a, b) in zip(resumed.kinds, whole.kinds) {
        #expect(a.normalizedMeanSquaredError == b.normalizedMeanSquaredError)
        #expect(a.worstTensor?.name == b.worstTensor?.name)
      }
      #expect(try files(in: directory) == ["a.slab", "whole.slab"])
    }
  }

  @Test func existingOutputIsReplacedOnlyWhenAsked() throws {
    let checkpoint = try ConversionTests.golden("granite-head80")
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "out.slab")
      try Data([1, 2, 3]).write(to: path)
      #expect(throws: ConversionError.self) { try converter(checkpoint).run(to: path.path) }
      #expect(try Data(contentsOf: path) == Data([1, 2, 3]))
      _ = try converter(checkpoint, replacing: true).run(to: path.path)
      #expect(try Slab(path: path.path).tensors.count == checkpoint.tensors.count)
      #expect(try files(in: directory) == ["out.slab"])
    }
  }

  /// By name, by hard link and by symbolic link, even when replacing is allowed.
  @Test func anInputIsNeverTheOutput() throws {
    try Place.withTemporaryDirectory { directory in
      let source = directory.appending(path: "checkpoint")
      try FileManager.default.copyItem(
        at: Place.goldens.appending(path: "checkpoints/granite-sharded"), to: source)
      let checkpoint = try Checkpoint(directory: source.path)
      let before = try checkpoint.files.map { try Data(contentsOf: URL(filePath: $0)) }
      let hard = directory.appending(path: "hard.slab")
      let soft = directory.appending(path: "soft.slab")
      let shard = source.appending(path: checkpoint.weightFileNames[1])
      try FileManager.default.linkItem(at: shard, to: hard)
      try FileManager.default.createSymbolicLink(at: soft, withDestinationURL: shard)
      for path in checkpoint.files + [hard.path, soft.path] {
        let error = try #require(throws: ConversionError.self) {
          try converter(checkpoint, replacing: true).run(to: path)
        }
        guard case .output(let reason) = error, case .outputIsInput = reason.reason else {
          Issue.record("\(path): \(error)")
          continue
        }
      }
      #expect(try checkpoint.files.map { try Data(contentsOf: URL(filePath: $0)) } == before)
      #expect(try files(in: directory) == ["checkpoint", "hard.slab", "soft.slab"])
    }
  }

  @Test func unwritableOutput() throws {
    let checkpoint = try ConversionTests.golden("granite-head80")
    for path in ["/no/such/place/out.slab", "/proc/out.slab", "", "/"] {
      #expect(throws: ConversionError.self) { try converter(checkpoint).run(to: path) }
    }
  }

  /// A weight that is not finite is named by file, tensor and flat index, whatever the recipe.
  @Test(arguments: Recipe.presets) func nonFiniteWeights(recipe: Recipe) throws {
    // A matrix of a layer, a norm and the embedding, in a float32 checkpoint.
    for name in [
      "model.layers.1.mlp.down_proj.weight", "model.norm.weight", "model.embed_tokens.weight",
    ] {
      for value in [Float.nan, .infinity, -.infinity] {
        try withChanged("granite-tied", tensor: name, index: 37, to: value) { checkpoint in
          let error = try failure(checkpoint, recipe)
          guard case .checkpoint(let reason) = error else {
            Issue.record("\(error)")
            return
          }
          #expect(reason.reason == .nonFinite && reason.tensor == name)
          #expect(reason.file.hasSuffix("model.safetensors"))
          #expect(reason.found?.hasSuffix("at index 37") == true)
        }
      }
    }
  }

  /// Float32 beyond the range of bfloat16 is refused rather than rounded to infinity.
  @Test func roundingToInfinity() throws {
    let name = "model.layers.0.mlp.up_proj.weight"
    try withChanged(
      "granite-tied", tensor: name, index: 5, to: .greatestFiniteMagnitude
    ) { checkpoint in
      #expect("\(try failure(checkpoint, .bf16))".contains("at index 5"))
      try Place.withTemporaryDirectory { directory in
        _ = try converter(checkpoint, .f32).run(to: directory.appending(path: "f32.slab").path)
      }
    }
  }

  /// Weights of any finite bits, tiny and enormous ones side by side: converted or refused by name.
  @Test(arguments: ["granite-tied", "granite-head64", "granite-untied"])
  func anyFiniteBits(golden: String) throws {
    try Place.withTemporaryDirectory { directory in
      let copy = directory.appending(path: golden)
      try FileManager.default.copyItem(
        at: Place.goldens.appending(path: "checkpoints/\(golden)"), to: copy)
      let url = copy.appending(path: "model.safetensors")
      var bytes = try Data(contentsOf: url)
      var random = SplitMix64(seed: 11)
      for tensor in try Checkpoint(directory: copy.path).tensors {
        let type = try #require(tensor.elementType)
        for index in stride(
          from: tensor.byteRange.lowerBound, to: tensor.byteRange.upperBound, by: 2)
        {
          var bits = UInt16.random(in: 0...0xFFFF, using: &random)
          let exponent: UInt16 = type == .f16 ? 0x7C00 : 0x7F80
          if bits & exponent == exponent { bits ^= 0x0400 | 0x0080 }  // never all ones
          bytes.replaceSubrange(index..<index + 2, with: withUnsafeBytes(of: bits) { Data($0) })
        }
      }
      try bytes.write(to: url)
      let checkpoint = try Checkpoint(directory: copy.path)
      let path = directory.appending(path: "out.slab").path
      for recipe in Recipe.presets {
        do throws(ConversionError) {
          let report = try converter(checkpoint, recipe, replacing: true).run(to: path)
          for kind in report.kinds {
            #expect(kind.normalizedMeanSquaredError.isFinite && kind.maximumAbsoluteError.isFinite)
          }
          #expect(throws: Never.self) {
            try Slab(path: path).verify(pool: WorkerPool(threadCount: 2)) { _, _ in }
          }
        } catch {
          guard case .checkpoint(let reason) = error else {
            Issue.record("\(recipe): \(error)")
            continue
          }
          #expect(reason.reason == .nonFinite, "\(recipe): \(error)")
        }
      }
    }
  }

  private func failure(_ checkpoint: Checkpoint, _ recipe: Recipe) throws -> ConversionError {
    try Place.withTemporaryDirectory { directory in
      let error = try #require(throws: ConversionError.self) {
        try converter(checkpoint, recipe).run(to: directory.appending(path: "out.slab").path)
      }
      #expect(try files(in: directory).isEmpty)
      return error
    }
  }

  /// Calls `body` with a copy of a float32 golden in which one element differs.
  private func withChanged(
    _ golden: String, tensor name: String, index: Int, to value: Float,
    _ body: (Checkpoint) throws -> Void
  ) throws {
    try Place.withTemporaryDirectory { directory in
      let copy = directory.appending(path: golden)
      try FileManager.default.copyItem(
        at: Place.goldens.appending(path: "checkpoints/\(golden)"), to: copy)
      let checkpoint = try Checkpoint(directory: copy.path)
      let tensor = try #require(checkpoint.descriptor(named: name))
      #expect(tensor.elementType == .f32)
      let url = copy.appending(path: "model.safetensors")
      var bytes = try Data(contentsOf: url)
      let start = tensor.byteRange.lowerBound + 4 * index
      bytes.replaceSubrange(start..<start + 4, with: withUnsafeBytes(of: value) { Data($0) })
      try bytes.write(to: url)
      try body(Checkpoint(directory: copy.path))
    }
  }
}
