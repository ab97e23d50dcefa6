import TensorCore

/// The keys and values of the positions seen so far, in float32.
///
/// Memory grows by a tile of 256 positions of all layers at a time. A tile of a layer holds, for each
/// KV head, its keys and then its values in the order of ``AttentionTile``.
final class KVCache {
  private let shape: ModelShape
  private var buffers: [AlignedBuffer] = []
  /// For every layer, where its tiles begin.
  private var layers: [[UnsafeMutablePointer<Float>]]

  init(shape: ModelShape) {
    self.shape = shape
    layers = Array(repeating: [], count: shape.layerCount)
  }

  /// Makes room for `count` positions in all; what is there stays.
  func reserve(_ count: Int) {
    while buffers.count * AttentionTile.positions < count {
      let buffer = AlignedBuffer(byteCount: Self.tileByteCount(shape))
      buffers.append(buffer)
      let floatsPerLayer = Self.tileByteCount(shape) / 4 / shape.layerCount
      for layer in layers.indices { layers[layer].append(buffer.floats + layer * floatsPerLayer) }
    }
  }

  func layer(_ index: Int) -> LayerCache {
    LayerCache(tiles: layers[index], paddedHeadSize: shape.paddedHeadSize)
  }

  /// Bytes held now.
  var byteCount: Int { buffers.count * Self.tileByteCount(shape) }

  /// Bytes held once `positions` have been seen; `Int.max` where that is more.
  static func byteCount(shape: ModelShape, positions: Int) -> Int {
    let tiles = (positions + AttentionTile.positions - 1) / AttentionTile.positions
    let (bytes, overflow) = tiles.multipliedReportingOverflow(by: tileByteCount(shape))
    return overflow ? .max : bytes
  }

  private static func tileByteCount(_ shape: ModelShape) -> Int {
    shape.layerCount * shape.keyValueHeadCount * LayerCache.floatsPerHead(shape.paddedHeadSize) * 4
  }
}

/// One layer's part of the cache. Workers write different positions and read after all are written.
struct LayerCache {
  fileprivate let tiles: [UnsafeMutablePointer<Float>]
  let paddedHeadSize: Int

  fileprivate static func floatsPerHead(_ paddedHeadSize: Int) -> Int {
    2 * AttentionTile.positions * paddedHeadSize
  }

  /// Enters the key and the value of one head at a position for which memory is reserved.
  func store(
    key: UnsafePointer<Float>, value: UnsafePointer<Float>, headSize: Int, head: Int, position: Int
  ) {
    let (tile, offset) = position.quotientAndRemainder(dividingBy: AttentionTile.positions)
    let keys = tiles[tile] + head * Self.floatsPerHead(paddedHeadSize)
    let lane = keys + (offset / 16) * paddedHeadSize * 16 + offset % 16
    for d in 0..<headSize { lane[d * 16] = key[d] }
    let values = keys + AttentionTile.positions * paddedHeadSize
    (values + offset * paddedHeadSize).update(from: value, count: headSize)
  }

  /// The tiles of one KV head that a query at `position` attends to: those up to itself.
  func tiles(head: Int, through position: Int) -> HeadTiles {
    HeadTiles(
      tiles: tiles, offset: head * Self.floatsPerHead(paddedHeadSize),
      valueOffset: AttentionTile.positions * paddedHeadSize, remaining: position + 1)
  }
}

/// The tiles of one head, in order of position. A type of its own, for a lazy map of a range would be
/// instantiated at run time for every query.
struct HeadTiles: Sequence, IteratorProtocol {
  fileprivate let tiles: [UnsafeMutablePointer<Float>]
  fileprivate let offset: Int
  /// From a tile's keys to its values.
  fileprivate let valueOffset: Int
  /// Positions still to come.
  fileprivate var remaining: Int
  private var tile = 0

  fileprivate init(
    tiles: [UnsafeMutablePointer<Float>], offset: Int, valueOffset: Int, remaining: Int
  ) {
    self.tiles = tiles
    self.offset = offset
    self.valueOffset = valueOffset
    self.remaining = remaining
  }

  mutating func next() -> AttentionTile? {
    guard remaining > 0 else { return nil }
    let keys = tiles[tile] + offset
    let count = Swift.min(remaining, AttentionTile.positions)
    tile += 1
    remaining -= count
    return AttentionTile(keys: keys, values: keys + valueOffset, count: count)
  }
}
