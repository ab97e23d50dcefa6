import Conversion
import Foundation
import Inference
import ModelFiles
import Pebble
import Synchronization
import TensorCore
import TestSupport

/// Models made from checkpoints by real conversion. The slab's file is removed at once; its mapping
/// lasts as long as the model.
enum Slabs {
  static let pool = WorkerPool(threadCount: ProcessInfo.processInfo.activeProcessorCount)
  private static let pebbles = Mutex<[Recipe: Model]>([:])

  static func model(_ directory: URL, _ recipe: Recipe, profile: SlabProfile = .run) throws -> Model
  {
    try Place.withTemporaryDirectory { folder in
      let path = folder.appending(path: "model.slab").path
      _ = try Converter(
        checkpoint: Checkpoint(directory: directory.path), recipe: recipe, calibration: .none,
        profile: profile,
        pool: pool
      ).run(to: path)
      return try Model(slab: Slab(path: path), pool: pool, kernels: .selected())
    }
  }

  /// The bundled model, converted once for each recipe.
  static func pebble(_ recipe: Recipe) throws -> Model {
    try pebbles.withLock { models in
      if let model = models[recipe] { return model }
      let model = try model(Pebble.directory, recipe)
      models[recipe] = model
      return model
    }
  }
}
