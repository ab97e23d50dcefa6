import TensorCore

/// The keys and values of the positions that a sequence has seen so far.
///
/// Memory grows by a tile of 256 positions of all layers at a time. A tile of a layer holds one
/// ``AttentionTile`` for each KV head.
final class KVCache {
  let type: CacheType
  private let shape: ModelShape
  private var buffers: [AlignedBuffer] = []
  /// For every layer, where its tiles begin.
  private var layers: [[UnsafeMutableRawPointer]]

  /// - Precondition: a tile's size is an `Int`, as ``byteCount(shape:type:positions:)`` tells.
  init(shape: ModelShape, type: CacheType) {
    self.shape = shape
    self.type = type
    layers = Array(repeating: [], count: shape.layerCount)
  }

  /// Makes room for `count` positions in all; what is there stays.
  func reserve(_ count: Int) {
    while buffers.count * AttentionTile.positions < count {
      let byteCount = Self.byteCount(shape: shape, type: type, positions: 1)
      let buffer = AlignedBuffer(byteCount: byteCount)
      buffers.append(buffer)
      for layer in layers.indices {
        layers[layer].append(buffer.base + layer * (byteCount / shape.layerCount))
      }
    }
  }

  /// The tiles of one KV head in a layer.
  func tiles(layer: Int, head: Int) -> AttentionTiles {
    let headSize = shape.paddedHeadSize
    let perHead = AttentionTile.byteCount(type, headSize: headSize)!  // it has been allocated
    return AttentionTiles(layers[layer], offset: head * perHead, type: type, headSize: headSize)
  }

  /// Bytes held now.
  var byteCount: Int {
    Self.byteCount(
      shape: shape, type: type, positions: buffers.count * AttentionTile.positions)
  }

  /// Bytes held once `positions` have been seen; `Int.max` where that is more.
  static func byteCount(shape: ModelShape, type: CacheType, positions: Int) -> Int {
    let tiles = (positions + AttentionTile.positions - 1) / AttentionTile.positions
    let factors = [shape.layerCount, shape.keyValueHeadCount, tiles]
    return factors.reduce(AttentionTile.byteCount(type, headSize: shape.paddedHeadSize) ?? .max) {
      let (product, overflow) = $0.multipliedReportingOverflow(by: $1)
      return overflow ? .max : product
    }
  }
}
