import Conversion
import Foundation
import ModelFiles
import Pebble
import Synchronization
import TensorCore
import TestSupport
import Testing

/// What a conversion of a trained model reports.
@Suite struct PebbleConversionTests {
  struct Bounds: Sendable {
    let recipe: Recipe
    /// Padding and the recipe's second encoding included.
    let bitsPerWeight: ClosedRange<Double>
    /// Normalised mean squared error of attention and MLP.
    let layers: ClosedRange<Double>
    /// The same of the embedding.
    let ends: ClosedRange<Double>
  }

  static let bounds: [Bounds] = [
    Bounds(recipe: .q4, bitsPerWeight: 4.5...5.3, layers: 1e-3...6e-3, ends: 1e-6...4e-5),
    Bounds(recipe: .q4s, bitsPerWeight: 4.3...5.1, layers: 1e-3...7e-3, ends: 1e-6...5e-5),
    Bounds(recipe: .q8, bitsPerWeight: 8.5...8.9, layers: 1e-6...4e-5, ends: 1e-6...4e-5),
    Bounds(recipe: .q8s, bitsPerWeight: 8.3...8.7, layers: 1e-6...5e-5, ends: 1e-6...5e-5),
    Bounds(recipe: .bf16, bitsPerWeight: 16...16.3, layers: 0...0, ends: 0...0),
    Bounds(recipe: .f32, bitsPerWeight: 32...32.3, layers: 0...0, ends: 0...0),
  ]

  @Test(arguments: bounds) func report(bounds: Bounds) throws {
    let recipe = bounds.recipe
    let checkpoint = try Checkpoint(directory: Pebble.directory.path)
    try Place.withTemporaryDirectory { directory in
      let report = try Converter(
        checkpoint: checkpoint, recipe: recipe, calibration: .none, profile: .run,
        pool: WorkerPool(threadCount: 2)
      ).run(to: directory.appending(path: "pebble.slab").path)
      #expect(
        report.kinds.map(\.role) == [
          .embedding, .query, .key, .value, .attentionOutput, .gate, .up, .down, .norm,
        ])
      #expect(report.weightCount == checkpoint.tensors.reduce(0) { $0 + $1.elementCount })
      #expect(report.sourceByteCount == report.weightCount * 2)
      #expect(
        bounds.bitsPerWeight.contains(report.bitsPerWeight), "\(recipe): \(report.bitsPerWeight)")
      for kind in report.kinds {
        let error = kind.normalizedMeanSquaredError
        switch kind.role {
        case .embedding, .output: #expect(bounds.ends.contains(error), "\(recipe) \(kind)")
        case .norm, .bias: #expect(error == 0)
        default: #expect(bounds.layers.contains(error), "\(recipe) \(kind)")
        }
        #expect(kind.minimumCosineSimilarity > 0.996 && kind.minimumCosineSimilarity <= 1)
        #expect((kind.worstTensor == nil) == (error == 0))
        if let worst = kind.worstTensor {
          #expect(worst.normalizedMeanSquaredError >= error)
          #expect(kind.maximumAbsoluteError > 0)
        }
      }
    }
  }

  @Test func progressReachesTheEnd() throws {
    let checkpoint = try Checkpoint(directory: Pebble.directory.path)
    let seen = Mutex<[Converter.Progress]>([])
    try Place.withTemporaryDirectory { directory in
      _ = try Converter(
        checkpoint: checkpoint, recipe: .bf16, calibration: .none, profile: .run,
        pool: WorkerPool(threadCount: 1),
        progress: { step in seen.withLock { $0.append(step) } }
      ).run(to: directory.appending(path: "pebble.slab").path)
    }
    let steps = seen.withLock { $0 }
    #expect(steps.count == checkpoint.tensors.count + 1)
    #expect(steps.map(\.doneByteCount) == steps.map(\.doneByteCount).sorted())
    #expect(steps.first?.doneByteCount == 0)
    #expect(steps.last?.doneByteCount == steps.last?.totalByteCount)
    // What is next is done then.
    let finished = steps.dropFirst().compactMap(\.finished?.entry.tensor.name)
    #expect(
      steps.map(\.stage) == finished.map { .encoding(tensor: $0) } + [.completing])
    #expect(steps.map(\.doneTensorCount) == Array(0...checkpoint.tensors.count))
    #expect(steps.allSatisfy { $0.totalTensorCount == checkpoint.tensors.count })
    for finished in steps.compactMap(\.finished) {
      #expect((finished.statistics == nil) == (finished.entry.encoding == nil))
    }
  }
}
