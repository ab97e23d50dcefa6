import JSON

// GPT BigCode (Li et al., "StarCoder: may the source be with you!", 2023): learned positions, LayerNorm,
// one head of keys and values for all queries, GELU, biases everywhere.

extension ModelConfiguration {
  /// Whether norms take away the mean, and have biases.
  public var hasLayerNorm: Bool { architecture == .gptBigCode }
  /// Whether a vector for its position is added to the embedding of each token.
  public var learnsPositions: Bool { architecture == .gptBigCode }
  /// Whether query, key and value projections are one matrix.
  public var hasFusedAttention: Bool { architecture == .gptBigCode }
  /// Whether the MLP is GELU between two matrices, rather than gated.
  public var hasPlainMLP: Bool { architecture == .gptBigCode }

  /// The embedding matrix.
  public var embeddingName: String {
    architecture == .gptBigCode ? "transformer.wte.weight" : "model.embed_tokens.weight"
  }
  /// The norm after the last layer, without `.weight` or `.bias`.
  public var finalNormName: String {
    architecture == .gptBigCode ? "transformer.ln_f" : "model.norm"
  }
  /// What the names of a layer's tensors begin with.
  public func layerPrefix(_ layer: Int) -> String {
    architecture == .gptBigCode ? "transformer.h.\(layer)." : "model.layers.\(layer)."
  }
  /// The vectors of all positions, where they are learned.
  public static let positionsName = "transformer.wpe.weight"

  init(bigCode fields: ConfigurationFields) throws(ConfigurationError) {
    architecture = .gptBigCode
    try fields.accept("multi_query", only: [.bool(true)], supported: "true")
    try fields.accept("scale_attn_weights", only: [.bool(true)], supported: "true")
    try fields.accept("add_cross_attention", only: [.bool(false)], supported: "false")
    try fields.accept(
      "activation_function", only: [.string("gelu_pytorch_tanh")],
      supported: "\"gelu_pytorch_tanh\"")
    let dimension = 1...1 << 22
    hiddenSize = try fields.require("n_embd", fields.integer("n_embd", in: dimension))
    layerKinds = Array(
      repeating: .attention,
      count: try fields.require("n_layer", fields.integer("n_layer", in: 1...4096)))
    mamba = nil
    headCount = try fields.require("n_head", fields.integer("n_head", in: 1...1 << 14))
    keyValueHeadCount = 1
    guard hiddenSize % headCount == 0 else {
      throw .invalid(
        field: "n_head", expected: "a divisor of n_embd (\(hiddenSize))", found: "\(headCount)")
    }
    headSize = hiddenSize / headCount
    intermediateSize = try fields.integer("n_inner", in: dimension) ?? 4 * hiddenSize
    vocabularySize = try fields.require(
      "vocab_size", fields.integer("vocab_size", in: 1...1 << 24))
    contextLength = try fields.require(
      "n_positions", fields.integer("n_positions", in: 1...1 << 24))
    ropeTheta = 10_000
    usesRotaryPositions = false
    normEpsilon = try Self.normEpsilon(fields, "layer_norm_epsilon", default: 1e-5)
    (attentionBias, mlpBias, hasFusedMLP) = (true, true, false)
    tiedEmbeddings = try fields.bool("tie_word_embeddings") ?? true
    (embeddingMultiplier, residualMultiplier, logitsScaling) = (1, 1, 1)
    attentionMultiplier = Float(1 / Double(headSize).squareRoot())
    eosTokenIDs = try fields.tokenIDs("eos_token_id", vocabularySize: vocabularySize)
    bosTokenID = try fields.tokenID("bos_token_id", vocabularySize: vocabularySize)
    padTokenID = try fields.tokenID("pad_token_id", vocabularySize: vocabularySize)
    sourceType = try Self.sourceType(fields)
  }

  /// Every tensor of a checkpoint, under its published name.
  var bigCodeTensors: [ExpectedTensor] {
    var tensors: [ExpectedTensor] = [
      (embeddingName, [vocabularySize, hiddenSize]),
      (Self.positionsName, [contextLength, hiddenSize]),
    ]
    func norm(_ name: String) {
      tensors += [(name + ".weight", [hiddenSize]), (name + ".bias", [hiddenSize])]
    }
    func linear(_ name: String, _ rows: Int, _ columns: Int) {
      tensors += [(name + ".weight", [rows, columns]), (name + ".bias", [rows])]
    }
    for layer in 0..<layerCount {
      let prefix = layerPrefix(layer)
      norm(prefix + "ln_1")
      linear(prefix + "attn.c_attn", queryWidth + 2 * keyValueWidth, hiddenSize)
      linear(prefix + "attn.c_proj", hiddenSize, queryWidth)
      norm(prefix + "ln_2")
      linear(prefix + "mlp.c_fc", intermediateSize, hiddenSize)
      linear(prefix + "mlp.c_proj", hiddenSize, intermediateSize)
    }
    norm(finalNormName)
    if !tiedEmbeddings { tensors.append(("lm_head.weight", [vocabularySize, hiddenSize])) }
    return tensors
  }
}
