import Conversion
import Foundation
import Inference
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Tokenization

/// The bundled model, converted once for all tests.
enum Models {
  static var pebble: Model { loaded.model }
  static var slab: Slab { loaded.slab }

  private static let loaded: (slab: Slab, model: Model) = {
    do {
      return try Place.withTemporaryDirectory { folder in
        let path = folder.appending(path: "model.slab").path
        let pool = WorkerPool(threadCount: ProcessInfo.processInfo.activeProcessorCount)
        _ = try Converter(
          checkpoint: Checkpoint(directory: Pebble.directory.path), recipe: .q4,
          calibration: .none, profile: .run, pool: pool
        ).run(to: path)
        let slab = try Slab(path: path)
        return (slab, try Model(slab: slab, pool: pool, kernels: .selected()))
      }
    } catch {
      fatalError("\(error)")
    }
  }()

  /// Tokens of ordinary text; the same for the same arguments.
  static func tokens(_ count: Int, seed: UInt64 = 1) -> [TokenID] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { _ in TokenID.random(in: 1..<4000, using: &random) }
  }
}
