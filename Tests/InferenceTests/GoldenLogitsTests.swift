import Conversion
import Foundation
import Inference
import ModelFiles
import TensorCore
import TestSupport
import Testing

/// Logits and greedy continuations of tiny checkpoints against transformers in float32
/// (`tools/make_goldens.py`), through real conversion to slabs of the recipe that loses nothing.
@Suite struct GoldenLogitsTests {
  static let variations: [String] = {
    let folder = Place.goldens.appending(path: "checkpoints").path
    return try! FileManager.default.contentsOfDirectory(atPath: folder).filter { name in
      FileManager.default.fileExists(atPath: "\(folder)/\(name)/golden.safetensors")
    }.sorted()
  }()

  @Test func everyVariationIsThere() {
    #expect(Self.variations.count >= 21)
  }

  @Test(arguments: variations) func agrees(name: String) throws {
    let directory = Place.goldens.appending(path: "checkpoints/\(name)")
    let golden = try Golden(directory.appending(path: "golden.safetensors"))
    for profile in [SlabProfile.run, .ship] {
      let model = try Slabs.model(directory, .f32, profile: profile)
      try expectAgreement(
        of: Session(model: model, activations: .f32, cacheType: .f32), with: golden)
    }
  }
}

/// Logits within 2e-4 of `golden`, and the same 64 greedy tokens.
func expectAgreement(of session: Session, with golden: Golden) throws {
  let tokens = golden.ids("tokens")
  let expected = golden.floats("logits")
  let width = expected.count / tokens.count
  var worst: Float = 0
  try session.append(tokens, logits: .all) { row, logits in
    #expect(logits.count == width)
    for (a, b) in zip(logits, expected[row * width..<(row + 1) * width]) {
      worst = max(worst, abs(a - b))
    }
  }
  #expect(worst <= 2e-4)

  session.reset()
  var logits = try session.logits(appending: tokens[..<16])
  var continuation: [Int32] = []
  for _ in 0..<golden.ids("greedy").count {
    let best = Int32(logits.indices.reduce(0) { logits[$1] > logits[$0] ? $1 : $0 })
    continuation.append(best)
    logits = try session.logits(appending: [best])
  }
  #expect(continuation == golden.ids("greedy"))
  #expect(continuation.count == 64)
}
