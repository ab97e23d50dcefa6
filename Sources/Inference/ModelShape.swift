import ModelFiles

/// The sizes that memory is computed from.
struct ModelShape: Sendable, Equatable {
  let hiddenSize: Int
  let intermediateSize: Int
  var layerCount: Int
  let headCount: Int
  let keyValueHeadCount: Int
  let headSize: Int
  let vocabularySize: Int
  let contextLength: Int

  init(_ configuration: ModelConfiguration) {
    hiddenSize = configuration.hiddenSize
    intermediateSize = configuration.intermediateSize
    layerCount = configuration.layerCount
    headCount = configuration.headCount
    keyValueHeadCount = configuration.keyValueHeadCount
    headSize = configuration.headSize
    vocabularySize = configuration.vocabularySize
    contextLength = configuration.contextLength
  }

  var paddedHeadSize: Int { padded(headSize) }
  /// The most input features of any linear layer.
  var maximumColumns: Int { max(hiddenSize, intermediateSize, headCount * headSize) }
}
