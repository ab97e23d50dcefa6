import Conversion
import Foundation
public import Inference
public import ModelFiles
import Pebble
import TensorCore
import TestSupport
public import Tokenization

/// The bundled model, converted once for all tests.
public enum Models {
  public static var pebble: Model { loaded.model }
  public static var slab: Slab { loaded.slab }

  private static let loaded: (slab: Slab, model: Model) = {
    do {
      return try Place.withTemporaryDirectory { folder in
        let path = folder.appending(path: "model.slab").path
        try convert(to: path)
        let slab = try Slab(path: path)
        return (slab, try Model(slab: slab, pool: pool, kernels: .selected()))
      }
    } catch {
      fatalError("\(error)")
    }
  }()

  private static var pool: WorkerPool {
    WorkerPool(threadCount: ProcessInfo.processInfo.activeProcessorCount)
  }

  /// Writes a slab of the bundled model, which is the same every time.
  public static func convert(to path: String) throws {
    _ = try Converter(
      checkpoint: Checkpoint(directory: Pebble.directory.path), recipe: .q4, calibration: .none,
      profile: .run, pool: pool
    ).run(to: path)
  }

  /// Tokens of ordinary text; the same for the same arguments.
  public static func tokens(_ count: Int, seed: UInt64 = 1) -> [TokenID] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { _ in TokenID.random(in: 1..<4000, using: &random) }
  }
}
