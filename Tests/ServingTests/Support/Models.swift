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
  static let pebble: Model = {
    do {
      return try Place.withTemporaryDirectory { folder in
        let path = folder.appending(path: "model.slab").path
        let pool = WorkerPool(threadCount: ProcessInfo.processInfo.activeProcessorCount)
        _ = try Converter(
          checkpoint: Checkpoint(directory: Pebble.directory.path), recipe: .q4,
          calibration: .none, profile: .run, pool: pool
        ).run(to: path)
        return try Model(slab: Slab(path: path), pool: pool, kernels: .selected())
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
