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

  /// A model of random weights in the shape of a golden checkpoint, that has the bundled model's
  /// tokenizer and template, and room for 2048 tokens.
  public static func synthetic(_ golden: String) throws -> Model {
    let path = Place.goldens.appending(path: "checkpoints/\(golden)/config.json")
    var settings = try JSONSerialization.jsonObject(with: Data(contentsOf: path)) as! [String: Any]
    settings["vocab_size"] = pebble.configuration.vocabularySize
    for name in ["max_position_embeddings", "n_positions"] where settings[name] != nil {
      settings[name] = 2048
    }
    let json = try JSONSerialization.data(withJSONObject: settings)
    let assets = try Checkpoint(directory: Pebble.directory.path).assets
    return try Place.withTemporaryDirectory { folder in
      let slab = folder.appending(path: "model.slab").path
      _ = try SyntheticModel(configuration: Array(json), seed: 1)
        .writeSlab(to: slab, recipe: .q8, assets: assets, pool: pool)
      return try Model(slab: Slab(path: slab), pool: pool, kernels: .selected())
    }
  }

  /// Tokens of ordinary text; the same for the same arguments.
  public static func tokens(_ count: Int, seed: UInt64 = 1) -> [TokenID] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { _ in TokenID.random(in: 1..<4000, using: &random) }
  }
}
