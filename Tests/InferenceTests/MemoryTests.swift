import Conversion
import Foundation
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Testing

@testable import Inference

@Suite struct MemoryTests {
  @Test func refusesToDecompressMoreThanThereIs() throws {
    try Place.withTemporaryDirectory { folder in
      let path = folder.appending(path: "pebble.slab").path
      _ = try Converter(
        checkpoint: Checkpoint(directory: Pebble.directory.path), recipe: .q4, calibration: .none,
        profile: .ship,
        pool: Slabs.pool
      ).run(to: path)
      let slab = try Slab(path: path)
      try Model.checkMemory(slab, physicalByteCount: 64 << 20)
      let error = #expect(throws: InferenceError.self) {
        try Model.checkMemory(slab, physicalByteCount: 100_000)
      }
      guard case .memory(let what, let needed, 100_000) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect(what.contains(path))
      #expect(needed > 100_000)
    }
  }

  @Test func refusesActivationsThatDoNotFit() throws {
    let shape = try ModelShape(TinyModel().configuration)
    let needed = MemoryPrediction(
      weightByteCount: 0, configuration: try TinyModel().configuration, contextLength: 1
    ).total
    try Session.checkMemory(
      shape, chunkLength: 256, cacheType: .f16, physicalByteCount: needed + 16 * 307 * 4)
    #expect(throws: InferenceError.self) {
      try Session.checkMemory(
        shape, chunkLength: 256, cacheType: .f16, physicalByteCount: needed)
    }
  }
}
