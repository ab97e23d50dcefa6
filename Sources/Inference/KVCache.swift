public import TensorCore

/// The keys and values of the positions that a sequence has seen so far, in the layers that have
/// attention.
///
/// Memory grows by a tile of 256 positions of all layers at a time. A tile of a layer holds one
/// ``AttentionTile`` for each KV head. Sequences that begin alike share tiles: whoever writes in a
/// shared one gets a copy first.
final class KVCache {
  let type: CacheType
  private let shape: ModelShape
  private let budget: CacheBudget?
  private var tiles: [KVTile] = []
  /// For every layer, where its tiles begin, with room for some more.
  private var bases = AlignedBuffer(byteCount: 0)
  private var basesPerLayer = 0

  /// - Precondition: a tile's size is an `Int`, as ``byteCount(shape:type:positions:)`` tells.
  init(shape: ModelShape, type: CacheType, budget: CacheBudget? = nil) {
    self.shape = shape
    self.type = type
    self.budget = budget
  }

  /// Shares the tiles of another cache that hold its first `positions`.
  init(sharing other: KVCache, positions: Int) {
    (shape, type, budget) = (other.shape, other.type, other.budget)
    let count = min(Self.tileCount(positions), other.tiles.count)
    tiles = Array(other.tiles[..<count])
    listBases(of: 0..<count)
  }

  /// Makes room for positions up to `end`, those from `start` on to be written; what is there stays.
  func reserve(_ end: Int, writingFrom start: Int) {
    for index in start / AttentionTile.positions..<max(tiles.count, Self.tileCount(end)) {
      if index == tiles.count {
        tiles.append(makeTile())
      } else if !isKnownUniquelyReferenced(&tiles[index]) {
        let copy = makeTile()
        copy.buffer.base.copyMemory(
          from: tiles[index].buffer.base, byteCount: tiles[index].buffer.byteCount)
        tiles[index] = copy
      } else {
        continue
      }
      listBases(of: index..<index + 1)
    }
  }

  /// Tiles that ``reserve(_:writingFrom:)`` would allocate.
  func newTiles(_ end: Int, writingFrom start: Int) -> Int {
    var count = max(0, Self.tileCount(end) - tiles.count)
    for index in tiles.indices.dropFirst(start / AttentionTile.positions)
    where !isKnownUniquelyReferenced(&tiles[index]) { count += 1 }
    return count
  }

  /// Where tiles are; valid until room is made for more.
  struct Layout {
    fileprivate let bases: UnsafePointer<UnsafeMutableRawPointer>
    fileprivate let basesPerLayer: Int
    fileprivate let type: CacheType
    fileprivate let headSize: Int
    fileprivate let byteCountPerHead: Int

    /// The tiles of one KV head in a layer.
    func tiles(layer: Int, head: Int) -> AttentionTiles {
      AttentionTiles(
        bases + layer * basesPerLayer, offset: head * byteCountPerHead, type: type,
        headSize: headSize)
    }
  }

  var layout: Layout {
    Layout(
      bases: listed(layer: 0), basesPerLayer: basesPerLayer, type: type,
      headSize: shape.paddedHeadSize,
      // It has been allocated, if anything has.
      byteCountPerHead: AttentionTile.byteCount(type, headSize: shape.paddedHeadSize) ?? 0)
  }

  private func listed(layer: Int) -> UnsafeMutablePointer<UnsafeMutableRawPointer> {
    bases.base.assumingMemoryBound(to: UnsafeMutableRawPointer.self) + layer * basesPerLayer
  }

  /// Lists where some tiles begin; all of them where there is no room for so many.
  private func listBases(of indices: Range<Int>) {
    var indices = indices
    if tiles.count > basesPerLayer {
      basesPerLayer = tiles.count + tiles.count / 2 + 2
      bases = AlignedBuffer(byteCount: shape.attentionLayerCount * basesPerLayer * 8)
      indices = tiles.indices
    }
    for layer in 0..<shape.attentionLayerCount {
      let list = listed(layer: layer)
      for index in indices { list[index] = base(of: index, layer: layer) }
    }
  }

  /// Bytes held now, shared ones too.
  var byteCount: Int {
    Self.byteCount(shape: shape, type: type, positions: tiles.count * AttentionTile.positions)
  }

  /// Bytes held once `positions` have been seen; `Int.max` where that is more.
  static func byteCount(shape: ModelShape, type: CacheType, positions: Int) -> Int {
    let factors = [shape.attentionLayerCount, shape.keyValueHeadCount, tileCount(positions)]
    return factors.reduce(AttentionTile.byteCount(type, headSize: shape.paddedHeadSize) ?? .max) {
      let (product, overflow) = $0.multipliedReportingOverflow(by: $1)
      return overflow ? .max : product
    }
  }

  /// Tiles that hold `positions`.
  static func tileCount(_ positions: Int) -> Int {
    (positions + AttentionTile.positions - 1) / AttentionTile.positions
  }

  private func makeTile() -> KVTile {
    KVTile(
      byteCount: Self.byteCount(shape: shape, type: type, positions: 1), budget: budget)
  }

  private func base(of index: Int, layer: Int) -> UnsafeMutableRawPointer {
    let buffer = tiles[index].buffer
    return buffer.base + layer * (buffer.byteCount / shape.attentionLayerCount)
  }
}

/// The keys and values of 256 positions in all layers.
private final class KVTile {
  let buffer: AlignedBuffer
  private let budget: CacheBudget?

  init(byteCount: Int, budget: CacheBudget?) {
    buffer = AlignedBuffer(byteCount: byteCount)
    self.budget = budget
    budget?.tileCount += 1
  }

  deinit { budget?.tileCount -= 1 }
}

/// Counts the tiles of the KV caches of several sessions, each once however many share it; the states of
/// recurrent layers count as tiles that hold as much. Used, as these sessions are, by one task at a time.
public final class CacheBudget {
  /// Tiles of 256 positions that there are now.
  public internal(set) var tileCount = 0
  /// Those of them that kept states count as (``Session/keepState(limit:)``).
  public internal(set) var keptTileCount = 0
  /// How often a session was started from another one.
  var uses = 0

  public init() {}

  /// Positions of a tile.
  public static let tilePositions = AttentionTile.positions

  /// Tiles that hold `positions`.
  public static func tileCount(_ positions: Int) -> Int { KVCache.tileCount(positions) }

  /// Tiles of a sequence that has seen `positions`, its state among them.
  public static func tileCount(_ positions: Int, of model: Model, _ type: CacheType) -> Int {
    KVCache.tileCount(positions) + stateTileCount(model.shape, type)
  }

  /// Tiles that the state of a sequence counts as; 0 without recurrent layers.
  static func stateTileCount(_ shape: ModelShape, _ type: CacheType) -> Int {
    let tile = max(1, KVCache.byteCount(shape: shape, type: type, positions: 1))
    return (RecurrentState.byteCount(shape) + tile - 1) / tile
  }

  /// Bytes of a tile of `model`.
  public static func tileByteCount(_ model: Model, _ type: CacheType) -> Int {
    KVCache.byteCount(shape: model.shape, type: type, positions: 1)
  }
}
