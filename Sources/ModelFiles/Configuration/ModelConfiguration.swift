public import TensorCore

/// What config.json says about a model, typed and checked: every field is in a range in which no
/// product of dimensions overflows, and nothing in the file asks for something that is not run.
///
/// Field names are those of the published Granite configurations, in full words.
public struct ModelConfiguration: Sendable, Equatable {
  /// Families of checkpoints. They share one kind of layers; the family decides what a missing field
  /// means.
  public enum Architecture: String, Sendable, CaseIterable {
    /// Dense Granite: 3.0 to 3.3, 4.1, 4.2.
    case granite = "GraniteForCausalLM"
    /// Llama: Granite Code 3b and 8b, granite-7b, SmolLM2.
    case llama = "LlamaForCausalLM"
    /// Granite 3.0 and 3.1 with experts in place of the MLP: 1b-a400m, 3b-a800m.
    case graniteMoe = "GraniteMoeForCausalLM"
    /// The same with an MLP that all tokens share.
    case graniteMoeShared = "GraniteMoeSharedForCausalLM"
    /// Granite 4.0: attention in every layer (micro, 1b, 350m), or Mamba2 in most (h-micro, h-1b, h-350m);
    /// with experts besides (h-tiny, h-small).
    case graniteHybrid = "GraniteMoeHybridForCausalLM"
    /// GPT BigCode: Granite Code 20b and 34b.
    case gptBigCode = "GPTBigCodeForCausalLM"
  }

  /// What a decoder layer mixes tokens with.
  public enum LayerKind: Sendable, CaseIterable {
    case attention
    case mamba
  }

  /// Which family's names and defaults the model follows.
  public var architecture: Architecture
  /// Features of a token between layers.
  public var hiddenSize: Int
  /// What each decoder layer is; at least one has attention.
  public var layerKinds: [LayerKind]
  /// Sizes of the Mamba2 layers; nil where there are none.
  public var mamba: MambaShape?
  /// Query heads; a multiple of ``keyValueHeadCount``.
  public var headCount: Int
  /// Heads of keys and values; divides the number of query heads.
  public var keyValueHeadCount: Int
  /// Features of one head; even where positions are rotary.
  public var headSize: Int
  /// Features inside the MLP, that all tokens share; 0 for a model with experts alone.
  public var intermediateSize: Int
  /// Nil for a model without experts.
  public var experts: ExpertConfiguration?
  /// Rows of the embedding; ids are below it.
  public var vocabularySize: Int
  /// Positions that the model was made for.
  public var contextLength: Int
  /// Base of the rotary angles.
  public var ropeTheta: Double
  /// Added to the mean square under the root of a norm.
  public var normEpsilon: Float
  /// Whether query, key, value and output projections have biases.
  public var attentionBias: Bool
  /// Whether gate, up and down projections have biases.
  public var mlpBias: Bool
  /// Whether the output projection is the embedding, so that there is no `lm_head.weight`.
  public var tiedEmbeddings: Bool
  /// Multiplies the embedding of every token.
  public var embeddingMultiplier: Float
  /// Scale of the attention scores, in place of 1 / √headSize.
  public var attentionMultiplier: Float
  /// Multiplies what attention and MLP add to the residual stream.
  public var residualMultiplier: Float
  /// Logits are divided by this.
  public var logitsScaling: Float
  /// Whether queries and keys are rotated; otherwise attention knows no positions.
  public var usesRotaryPositions: Bool
  /// Whether gate and up are the halves of one `shared_mlp.input_linear`, gate first.
  public var hasFusedMLP: Bool
  /// Ids that end a text; sorted.
  public var eosTokenIDs: [Int]
  /// Id of the token that begins a text; nil where none is named.
  public var bosTokenID: Int?
  /// Id of the token that fills batches; nil where none is named.
  public var padTokenID: Int?
  /// Element type that the configuration names; tensors say their own.
  public var sourceType: ElementType?
}

extension ModelConfiguration {
  /// A tensor that a checkpoint of this configuration must hold, under its published name.
  public typealias ExpectedTensor = (name: String, shape: [Int])

  /// Decoder layers.
  public var layerCount: Int { layerKinds.count }

  /// Rows of the query projection and columns of the output projection.
  public var queryWidth: Int { headCount * headSize }
  /// Rows of the key and of the value projection.
  public var keyValueWidth: Int { keyValueHeadCount * headSize }

  /// Every tensor that such a checkpoint holds: embedding, layers ascending, final norm, output.
  /// Shapes are [rows, columns], as published.
  public var expectedTensors: [ExpectedTensor] {
    if architecture == .gptBigCode { return bigCodeTensors }
    var tensors: [ExpectedTensor] = [
      (embeddingName, [vocabularySize, hiddenSize])
    ]
    for layer in 0..<layerCount { tensors += expectedTensors(ofLayer: layer) }
    tensors.append((finalNormName + ".weight", [hiddenSize]))
    if !tiedEmbeddings { tensors.append(("lm_head.weight", [vocabularySize, hiddenSize])) }
    return tensors
  }

  private func expectedTensors(ofLayer layer: Int) -> [ExpectedTensor] {
    var tensors: [ExpectedTensor] = []
    let prefix = layerPrefix(layer)
    func add(_ name: String, _ shape: [Int]) { tensors.append((prefix + name, shape)) }
    func linear(_ name: String, _ rows: Int, _ columns: Int, bias: Bool) {
      add(name + ".weight", [rows, columns])
      if bias { add(name + ".bias", [rows]) }
    }
    add("input_layernorm.weight", [hiddenSize])
    switch layerKinds[layer] {
    case .attention:
      linear("self_attn.q_proj", queryWidth, hiddenSize, bias: attentionBias)
      linear("self_attn.k_proj", keyValueWidth, hiddenSize, bias: attentionBias)
      linear("self_attn.v_proj", keyValueWidth, hiddenSize, bias: attentionBias)
      linear("self_attn.o_proj", hiddenSize, queryWidth, bias: attentionBias)
    case .mamba:
      for (name, shape) in mamba!.expectedTensors(hiddenSize: hiddenSize) { add(name, shape) }
    }
    add("post_attention_layernorm.weight", [hiddenSize])
    if let experts {
      add(experts.router, [experts.count, hiddenSize])
      add(experts.gateUp, [experts.count, 2 * experts.intermediateSize, hiddenSize])
      add(experts.down, [experts.count, hiddenSize, experts.intermediateSize])
    }
    if intermediateSize == 0 { return tensors }
    if hasFusedMLP {
      linear("shared_mlp.input_linear", 2 * intermediateSize, hiddenSize, bias: false)
      linear("shared_mlp.output_linear", hiddenSize, intermediateSize, bias: false)
    } else {
      linear("mlp.gate_proj", intermediateSize, hiddenSize, bias: mlpBias)
      linear("mlp.up_proj", intermediateSize, hiddenSize, bias: mlpBias)
      linear("mlp.down_proj", hiddenSize, intermediateSize, bias: mlpBias)
    }
    return tensors
  }

  /// This configuration with ``hasFusedMLP`` and the names of experts as the tensors have them.
  ///
  /// The class named in config.json does not decide: dense Granite 4.0 models have been published
  /// under both classes, and the arithmetic is the same.
  /// - Parameter hasTensor: whether there is a tensor of that name.
  public func resolved(hasTensor: (String) -> Bool) -> ModelConfiguration {
    var result = self
    if hasTensor("model.layers.0.shared_mlp.input_linear.weight") {
      result.hasFusedMLP = !mlpBias  // fused projections have no biases: the split ones are missed
    } else if hasTensor("model.layers.0.mlp.gate_proj.weight") {
      result.hasFusedMLP = false
    }
    result.experts?.naming = .parameters
    if let names = result.experts, !hasTensor("model.layers.0." + names.gateUp) {
      result.experts?.naming = .linear
    }
    return result
  }
}
