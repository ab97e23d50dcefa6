import JSON
import ModelFiles
import TensorCore
import TestSupport
import Testing
import Tokenization

@testable import Inference

/// Stored hidden states on their way through single layers.
@Suite struct LayerPassTests {
  private static let tokens = (0..<300).map { TokenID(($0 * 37 + 11) % 307) }

  /// Layer by layer it is the forward pass, bit by bit, also past the first chunk of a window.
  @Test(arguments: [
    ["rope_theta": JSONValue.integer(10000)], ["mlp_bias": .bool(true)], TinyModel.hybrid,
    TinyModel.bigCode,
  ])
  func agreesWithTheForwardPass(settings: [String: JSONValue]) throws {
    let tiny = try TinyModel(settings, encodings: [.q8b16])
    let model = try tiny.model()
    let session = try Session(model: model, cacheType: .f32)
    var expected: [[Float]] = []
    try session.append(Self.tokens, logits: .all) { expected.append(Array($1)) }

    for threads in [1, 3] {
      let pool = WorkerPool(threadCount: threads)
      let pass = LayerPass(
        tiny.configuration, windowLength: 300, pool: pool, kernels: Kernels(.scalar))
      var hidden = embedded(model)
      for layer in 0..<tiny.configuration.layerCount {
        let weights = try LayerWeights(
          layer: layer, configuration: tiny.configuration, weights: tiny, pool: pool)
        try hidden.withUnsafeMutableBufferPointer { try pass.run(weights, over: $0) { _ in } }
      }
      let before = hidden
      var found: [[Float]] = []
      hidden.withUnsafeMutableBufferPointer {
        let norm = tiny.configuration.finalNormName
        pass.finish(
          over: $0, norm: tiny.vector(named: norm + ".weight"), bias: tiny.vectors[norm + ".bias"]
        ) { input in
          #expect(input.kind == .output && input.columns == tiny.configuration.hiddenSize)
          found += logits(of: input, model)
        }
      }
      #expect(hidden == before)
      #expect(found == expected)
    }
  }

  /// Every linear layer's input is shown once for each chunk, with its width.
  @Test func showsTheInputsOfLinearLayers() throws {
    let tiny = try TinyModel(["num_attention_heads": .integer(4)], encodings: [.q8b16])
    let pool = WorkerPool(threadCount: 2)
    let pass = LayerPass(
      tiny.configuration, windowLength: 300, pool: pool, kernels: Kernels(.scalar))
    let weights = try LayerWeights(
      layer: 1, configuration: tiny.configuration, weights: tiny, pool: pool)
    var hidden = embedded(try tiny.model())
    var seen: [String] = []
    var first: [Float] = []
    try hidden.withUnsafeMutableBufferPointer {
      try pass.run(weights, over: $0) { input in
        seen.append("\(input.kind) \(input.columns) \(input.tokenCount)")
        if first.isEmpty { first = (0..<input.columns).map { input.rows[$0] } }
      }
    }
    let kinds = ["attention 40", "attentionOutput 80", "mlp 40", "down 56"]
    #expect(seen == kinds.map { $0 + " 150" } + kinds.map { $0 + " 150" })
    // The first is the normalized embedding.
    let embedding = embedded(try tiny.model())
    var expected = [Float](repeating: 0, count: 40)
    Reference.rmsNorm(
      embedding, weight: tiny.vector(named: "model.layers.1.input_layernorm.weight"), count: 40,
      epsilon: tiny.configuration.normEpsilon, output: &expected)
    #expect(first == expected)
  }

  @Test func nonFiniteStatesAreNamed() throws {
    let tiny = try TinyModel(encodings: [.q8b16])
    let pool = WorkerPool(threadCount: 1)
    let pass = LayerPass(
      tiny.configuration, windowLength: 300, pool: pool, kernels: Kernels(.scalar))
    let weights = try LayerWeights(
      layer: 1, configuration: tiny.configuration, weights: tiny, pool: pool)
    var hidden = embedded(try tiny.model())
    hidden[280 * 40 + 3] = .infinity
    #expect(throws: InferenceError.nonFiniteActivation(position: 280, layer: 1)) {
      try hidden.withUnsafeMutableBufferPointer { try pass.run(weights, over: $0) { _ in } }
    }
  }

  private func embedded(_ model: Model) -> [Float] {
    var hidden = [Float](repeating: 0, count: Self.tokens.count * model.shape.hiddenSize)
    for (index, token) in Self.tokens.enumerated() {
      hidden.withUnsafeMutableBufferPointer {
        let row = $0.baseAddress! + index * model.shape.hiddenSize
        model.decoder.embedding.copyRow(Int(token), into: row)
        let multiplier = model.decoder.embeddingMultiplier
        for feature in 0..<model.shape.hiddenSize { row[feature] *= multiplier }
        guard let positions = model.decoder.positions else { return }
        var position = [Float](repeating: 0, count: model.shape.hiddenSize)
        positions.copyRow(index, into: &position)
        for feature in position.indices { row[feature] += position[feature] }
      }
    }
    return hidden
  }

  private func logits(of input: ObservedInput, _ model: Model) -> [[Float]] {
    let weight = model.decoder.output.weight
    let activations = Activations(
      maximumTokens: input.tokenCount, maximumColumns: input.columns)
    let stride = weight.geometry.paddedRows
    let output = AlignedBuffer(byteCount: input.tokenCount * stride * 4)
    try? activations.load(
      input.rows, tokenCount: input.tokenCount, inputStride: input.stride, for: weight,
      precision: .int8, kernels: model.kernels, pool: model.pool)
    model.kernels.multiply(
      weight, activations, output: output.floats, outputStride: stride, pool: model.pool)
    return (0..<input.tokenCount).map { token in
      (0..<weight.geometry.rows).map {
        output.floats[token * stride + $0] / model.decoder.logitsScaling
      }
    }
  }
}
