import ModelFiles
import TensorCore

/// Assembles a decoder from named tensors, each checked against the shape that the configuration
/// calls for.
struct ModelLoader {
  private let configuration: ModelConfiguration
  private let weights: any WeightSource
  private let pool: WorkerPool
  private let progress: (Int, Int) -> Void
  private let shapes: [String: [Int]]
  private var ready = 0

  init(
    configuration: ModelConfiguration, weights: any WeightSource, pool: WorkerPool,
    progress: @escaping (Int, Int) -> Void
  ) {
    self.configuration = configuration
    self.weights = weights
    self.pool = pool
    self.progress = progress
    shapes = Dictionary(uniqueKeysWithValues: configuration.expectedTensors.map { ($0, $1) })
  }

  /// - Throws: ``InferenceError/missingTensor(name:expected:model:)``,
  ///   ``InferenceError/wrongShape(tensor:expected:found:model:)``, and what the source throws.
  mutating func decoder() throws -> Decoder {
    try Self.check(configuration, model: weights.path, shape: weights.shape)
    let embedding = try matrix(configuration.embeddingName)
    let positions =
      configuration.learnsPositions ? try matrix(ModelConfiguration.positionsName) : nil
    let layers = try (0..<configuration.layerCount).map { try layer($0) }
    return Decoder(
      embedding: embedding, positions: positions, rotary: RotaryTable(configuration),
      layers: layers,
      norm: try norm(configuration.finalNormName),
      output: configuration.tiedEmbeddings
        ? Linear(weight: embedding, bias: nil) : try linear("lm_head"),
      embeddingMultiplier: configuration.embeddingMultiplier,
      residualMultiplier: configuration.residualMultiplier,
      logitsScaling: configuration.logitsScaling)
  }

  /// One of the layers.
  ///
  /// - Throws: what the source throws.
  mutating func layer(_ index: Int) throws -> DecoderLayer {
    let prefix = configuration.layerPrefix(index)
    if configuration.architecture == .gptBigCode { return try bigCodeLayer(index, prefix) }
    return DecoderLayer(
      place: configuration.layerKinds[..<index].count { $0 == configuration.layerKinds[index] },
      inputNorm: try norm(prefix + "input_layernorm"),
      mixer: configuration.layerKinds[index] == .mamba
        ? .mamba(try mamba(prefix + "mamba.")) : .attention(try attention(prefix + "self_attn.")),
      postAttentionNorm: try norm(prefix + "post_attention_layernorm"),
      feedForward: FeedForward(mlp: try mlp(prefix), experts: try experts(prefix)))
  }

  private mutating func attention(_ prefix: String) throws -> Attention {
    Attention(
      input: .separate(
        query: try linear(prefix + "q_proj"), key: try linear(prefix + "k_proj"),
        value: try linear(prefix + "v_proj")),
      output: try linear(prefix + "o_proj"), heads: AttentionHeads(configuration))
  }

  private mutating func mamba(_ prefix: String) throws -> Mamba {
    let shape = configuration.mamba!
    return Mamba(
      shape: shape, input: try linear(prefix + "in_proj"),
      convolution: Convolution(
        shape, weights: try vector(prefix + "conv1d.weight"),
        bias: shape.hasConvolutionBias ? try vector(prefix + "conv1d.bias") : nil),
      heads: StateSpaceHeads(
        skips: try vector(prefix + "D"), stepBiases: try vector(prefix + "dt_bias"),
        rateLogarithms: try vector(prefix + "A_log")),
      norm: try norm(prefix + "norm"), output: try linear(prefix + "out_proj"))
  }

  private mutating func experts(_ prefix: String) throws -> Experts? {
    guard let experts = configuration.experts else { return nil }
    return Experts(
      router: try matrix(prefix + experts.router),
      gateUp: MatrixList(try matrices(prefix + experts.gateUp)),
      down: MatrixList(try matrices(prefix + experts.down)),
      usedCount: experts.usedCount, intermediateSize: experts.intermediateSize)
  }

  private mutating func mlp(_ prefix: String) throws -> MLP? {
    if configuration.intermediateSize == 0 { return nil }
    return if configuration.hasFusedMLP {
      MLP(
        input: .fused(try linear(prefix + "shared_mlp.input_linear")),
        down: try linear(prefix + "shared_mlp.output_linear"),
        intermediateSize: configuration.intermediateSize)
    } else {
      MLP(
        input: .separate(
          gate: try linear(prefix + "mlp.gate_proj"), up: try linear(prefix + "mlp.up_proj")),
        down: try linear(prefix + "mlp.down_proj"),
        intermediateSize: configuration.intermediateSize)
    }
  }

  private mutating func bigCodeLayer(_ index: Int, _ prefix: String) throws -> DecoderLayer {
    DecoderLayer(
      place: index,
      inputNorm: try norm(prefix + "ln_1"),
      mixer: .attention(
        Attention(
          input: .fused(try linear(prefix + "attn.c_attn")),
          output: try linear(prefix + "attn.c_proj"), heads: AttentionHeads(configuration))),
      postAttentionNorm: try norm(prefix + "ln_2"),
      feedForward: FeedForward(
        mlp: MLP(
          input: .plain(try linear(prefix + "mlp.c_fc")), down: try linear(prefix + "mlp.c_proj"),
          intermediateSize: configuration.intermediateSize), experts: nil))
  }

  private mutating func linear(_ name: String) throws -> Linear {
    Linear(
      weight: try matrix(name + ".weight"),
      bias: shapes[name + ".bias"] == nil ? nil : try vector(name + ".bias"))
  }

  private mutating func norm(_ name: String) throws -> Norm {
    Norm(
      weight: try vector(name + ".weight"),
      bias: shapes[name + ".bias"] == nil ? nil : try vector(name + ".bias"),
      epsilon: configuration.normEpsilon)
  }

  private mutating func matrix(_ name: String) throws -> WeightMatrix { try matrices(name)[0] }

  private mutating func matrices(_ name: String) throws -> [WeightMatrix] {
    defer { report() }
    return try weights.matrices(named: name, pool: pool)
  }

  private mutating func vector(_ name: String) throws -> [Float] {
    defer { report() }
    return try weights.vector(named: name)
  }

  private mutating func report() {
    ready += 1
    progress(ready, shapes.count)
  }

  /// Looks for every tensor that a configuration asks for.
  ///
  /// - Parameter shape: of the tensor of a name; nil where there is none.
  /// - Throws: ``InferenceError/missingTensor(name:expected:model:)``,
  ///   ``InferenceError/wrongShape(tensor:expected:found:model:)``.
  static func check(
    _ configuration: ModelConfiguration, model: String, shape: (_ name: String) -> [Int]?
  ) throws(InferenceError) {
    for (name, expected) in configuration.expectedTensors {
      guard let found = shape(name) else {
        throw .missingTensor(name: name, expected: expected, model: model)
      }
      if found != expected {
        throw .wrongShape(tensor: name, expected: expected, found: found, model: model)
      }
    }
  }
}
