import JSON
import TensorCore
import TestSupport
import Testing

@testable import Inference

extension TinyModel {
  /// Tokens other than 9 leave feature 3 of the hidden state alone; token 9's makes the values of the
  /// first layer too large for binary16.
  static func withLargeValues(ofToken token: Int = 9) throws -> TinyModel {
    var tiny = try TinyModel()
    let embedding = tiny.matrices["model.embed_tokens.weight"]!
    tiny.matrices["model.embed_tokens.weight"] = .packed(embedding.geometry) { row, column in
      column == 3
        ? (row == token ? 1 : 0) : Reference.dequantize(embedding, row: row, column: column)
    }
    let name = "model.layers.0.self_attn.v_proj.weight"
    let value = tiny.matrices[name]!
    tiny.matrices[name] = .packed(value.geometry) { row, column in
      column == 3 ? 1e6 : Reference.dequantize(value, row: row, column: column)
    }
    return tiny
  }
}

@Suite struct CacheTests {
  @Test(arguments: InstructionSet.supported)
  func valuesBeyondTheRangeSayWhere(instructionSet: InstructionSet) throws {
    let model = try TinyModel.withLargeValues().model(kernels: Kernels(instructionSet))
    let tokens: [Int32] = [1, 2, 3, 9, 4]
    let session = try Session(model: model, chunkLength: 2)
    let error = #expect(
      throws: InferenceError.cacheRange(type: .f16, position: 3, layer: 0)
    ) { try session.append(tokens) }
    #expect("\(error!)".contains("position 3 in layer 0"))
    // What came before is there, and another token goes on.
    #expect(session.tokens == [1, 2])
    let after = try session.logits(appending: [5])
    #expect(after == (try Session(model: model).logits(appending: [1, 2, 5])))
    for type in [CacheType.f32, .q8] {
      #expect(try Session(model: model, cacheType: type).logits(appending: tokens).count == 307)
    }
  }

  /// How far logits of a model with some sharp heads are from those of a cache of float32.
  @Test func smallerTypesAreClose() throws {
    let tiny = try TinyModel(["attention_multiplier": 1.0])
    let tokens = randomTokens(400)
    func logits(_ type: CacheType) throws -> [[Float]] {
      try Session(
        model: tiny.model(kernels: Kernels(InstructionSet.supported.last!)), activations: .f32,
        cacheType: type
      ).allLogits(appending: tokens)
    }
    let exact = try logits(.f32)
    func error(_ type: CacheType) throws -> Float {
      let (a, b) = (try logits(type).joined(), exact.joined())
      var (errors, squares): (Float, Float) = (0, 0)
      for (value, reference) in zip(a, b) {
        errors += (value - reference) * (value - reference)
        squares += reference * reference
      }
      return (errors / squares).squareRoot()
    }
    let (half, int8) = (try error(.f16), try error(.q8))
    print("relative error of logits: f16 \(half), q8 \(int8)")
    #expect(0 < half && half < 5e-4)
    #expect(half < int8 && int8 < 2e-2)
  }

  /// Memory after ten thousand tokens is what it was after a hundred, and the cache.
  @Test func steadyStateAllocatesNothing() async {
    await #expect(processExitsWith: .success) {
      let model = try TinyModel(
        ["max_position_embeddings": 10_240], encodings: [.q4b16, .q8b16]
      ).model(threads: 2, kernels: Kernels(InstructionSet.supported.last!))
      let session = try Session(model: model)
      var before = 0
      for token in 0..<10_000 {
        try session.append([Int32(token % 307)], logits: .last) { _, _ in }
        if token == 100 { before = SystemMemory.residentByteCount! - session.cacheByteCount }
      }
      let after = SystemMemory.residentByteCount! - session.cacheByteCount
      // Less than a hundred bytes for each token; the tokens themselves are four.
      precondition(after - before < 9900 * 80, "memory grew by \(after - before) bytes")
      let prediction = MemoryPrediction(
        weightByteCount: 0, configuration: model.configuration, contextLength: 10_000)
      precondition(session.cacheByteCount == prediction.cacheByteCount)
    }
  }
}
