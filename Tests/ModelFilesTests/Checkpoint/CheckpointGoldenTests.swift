import Foundation
import ModelFiles
import TensorCore
import TestSupport
import Testing

/// The checkpoints that the project commits, each written by the published model code.
@Suite struct CheckpointGoldenTests {
  static let names =
    (try? FileManager.default.contentsOfDirectory(
      atPath: Place.goldens.appending(path: "checkpoints").path))?.sorted() ?? []

  @Test func thereAreGoldens() { #expect(Self.names.count >= 21) }

  @Test(arguments: names) func opens(name: String) throws {
    let directory = Place.goldens.appending(path: "checkpoints/\(name)").path
    let checkpoint = try Checkpoint(directory: directory)
    let expected = checkpoint.configuration.expectedTensors
    #expect(checkpoint.tensors.count == expected.count)
    for (name, shape) in expected {
      let tensor = try #require(checkpoint.descriptor(named: name))
      #expect(tensor.shape == shape)
      if TensorRole(tensorName: name)?.isMatrix == true {
        let matrix = try checkpoint.rows(named: name)
        #expect(try checkpoint.matrices(named: name).count == (shape.count == 3 ? shape[0] : 1))
        var row = [Float](repeating: 0, count: matrix.columns)
        let values = try checkpoint.values(named: name)
        for index in [0, matrix.rows - 1] {
          matrix.copyRow(index, into: &row)
          #expect(Array(values[index * matrix.columns..<(index + 1) * matrix.columns]) == row)
        }
      } else {
        #expect(try checkpoint.values(named: name).count == shape.reduce(1, *))
      }
    }
    // None of them has a tokenizer.
    #expect(checkpoint.warnings.count == 1)
    #expect(checkpoint.assets.map(\.name) == ["config.json", "generation_config.json"])
  }

  @Test func variationsAreRead() throws {
    func configuration(_ name: String) throws -> ModelConfiguration {
      try Checkpoint(directory: Place.goldens.appending(path: "checkpoints/\(name)").path)
        .configuration
    }
    let fifth = try configuration("granite-dialect5")
    #expect(fifth.ropeTheta == 50_000_000)
    #expect(fifth.sourceType == .bf16)
    #expect(!fifth.tiedEmbeddings)
    let hybrid = try configuration("hybrid-dialect5")
    #expect(hybrid.hasFusedMLP)
    #expect(hybrid.usesRotaryPositions)
    #expect(hybrid.ropeTheta == 1_500_000)
    let moe = try configuration("moe")
    #expect(moe.experts == ExpertConfiguration(count: 32, usedCount: 8, intermediateSize: 24))
    #expect(moe.intermediateSize == 0 && moe.architecture == .graniteMoe)
    #expect(try configuration("moe-dialect5").experts?.naming == .parameters)
    let shared = try configuration("moe-shared")
    #expect(shared.intermediateSize == 56 && shared.hasFusedMLP && shared.experts?.count == 10)
    let llama = try configuration("llama-biases")
    #expect(llama.attentionBias && llama.mlpBias)
    #expect(llama.headSize == 80)
    #expect(llama.attentionMultiplier == Float(1 / 80.0.squareRoot()))
    #expect(llama.embeddingMultiplier == 1 && llama.logitsScaling == 1)
  }
}
