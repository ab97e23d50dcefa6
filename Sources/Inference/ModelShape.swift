import ModelFiles

/// The sizes that memory is computed from.
struct ModelShape: Sendable, Equatable {
  let hiddenSize: Int
  let intermediateSize: Int
  /// Nil for a model without experts.
  let experts: ExpertConfiguration?
  let layerCount: Int
  /// Layers that keep keys and values.
  var attentionLayerCount: Int
  /// Layers that keep a state.
  var recurrentLayerCount: Int
  let headCount: Int
  let keyValueHeadCount: Int
  let headSize: Int
  /// Whether query, key and value are projected together.
  let hasFusedAttention: Bool
  let vocabularySize: Int
  let contextLength: Int
  /// Nil where no layer keeps a state.
  let mamba: MambaShape?

  init(_ configuration: ModelConfiguration) {
    hiddenSize = configuration.hiddenSize
    intermediateSize = configuration.intermediateSize
    experts = configuration.experts
    layerCount = configuration.layerCount
    attentionLayerCount = configuration.layerKinds.count { $0 == .attention }
    recurrentLayerCount = configuration.layerKinds.count { $0 == .mamba }
    mamba = configuration.mamba
    headCount = configuration.headCount
    keyValueHeadCount = configuration.keyValueHeadCount
    headSize = configuration.headSize
    hasFusedAttention = configuration.hasFusedAttention
    vocabularySize = configuration.vocabularySize
    contextLength = configuration.contextLength
  }

  var paddedHeadSize: Int { padded(headSize) }
  /// The most input features of any linear layer but an MLP's down.
  var maximumColumns: Int {
    max(hiddenSize, headCount * headSize, mamba?.innerSize ?? 0)
  }

  /// The shape with one layer of each kind that there is.
  var ofOneLayer: ModelShape {
    var shape = self
    shape.attentionLayerCount = 1
    shape.recurrentLayerCount = min(1, recurrentLayerCount)
    return shape
  }
}
