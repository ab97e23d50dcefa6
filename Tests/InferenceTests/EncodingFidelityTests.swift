import Conversion
import Foundation
import Inference
import ModelFiles
import Pebble
import Quantization
import TensorCore
import TestSupport
import Testing
import Tokenization

/// Pebble with its linear layers in one encoding and its embedding, which is its output projection
/// too, as it was: what an encoding does by itself. No recipe puts an output projection in 4 bits.
private struct EncodedPebble: WeightSource {
  let checkpoint: Checkpoint
  let encoding: BlockEncoding

  var path: String { checkpoint.directory }

  func shape(ofTensor name: String) -> [Int]? { checkpoint.descriptor(named: name)?.shape }

  func matrices(named name: String, pool: WorkerPool) throws -> [WeightMatrix] {
    let encoding = name.contains("embed_tokens") ? .bf16 : encoding
    return [try Quantizer.encode(checkpoint.matrix(named: name), as: encoding, pool: pool).matrix]
  }

  func vector(named name: String) throws -> [Float] { try checkpoint.values(named: name) }
}

@Suite struct EncodingFidelityTests {
  /// KL divergence to the bf16 model over 8 windows of 512 tokens, activations unquantized.
  @Test(
    .enabled(if: Place.shared != nil, "needs ../shared"),
    arguments: [(BlockEncoding.q4b16, 0.0050), (.q4b32, 0.0070), (.q8b32, 0.0001)])
  func divergenceOnANovel(_ encoding: BlockEncoding, _ bound: Double) throws {
    let text = try String(
      contentsOf: Place.shared!.appending(path: "data/railway-children.txt"), encoding: .utf8)
    let reference = try Slabs.pebble(.bf16)
    let candidate = try Model(
      weights: EncodedPebble(
        checkpoint: Checkpoint(directory: Pebble.directory.path), encoding: encoding),
      assets: ModelAssets(configuration: reference.configuration), pool: Slabs.pool,
      kernels: .selected())
    let windows = TokenWindows(try reference.tokenizer!.encode(text), skip: 0, limit: 8)
    let result = try Evaluation(
      of: Session(model: candidate, activations: .f32),
      reference: Session(model: reference, activations: .f32), on: windows)
    let divergence = try #require(result.divergence).mean
    print("KL \(encoding) in the linear layers: \(divergence.mean) ± \(divergence.standardError)")
    #expect(result.tokenCount == 8 * 511)
    #expect(divergence.mean > 0)
    #expect(divergence.mean <= bound)
  }
}
