public import TensorCore

/// Runs nothing but the attention of a prefill, over one layer's cache of random keys and values: what
/// it reaches of the machine's multiply-adds, which a whole prefill does not tell.
public final class AttentionProbe {
  private let model: Model
  private let tokenCount: Int
  private let cache: KVCache
  private let workspace: Workspace
  private static let chunkLength = Session.defaultChunkLength

  /// - Parameter tokenCount: of the prompt, which is read in chunks as by a session.
  public init(model: Model, tokenCount: Int, cacheType: CacheType) {
    self.model = model
    self.tokenCount = tokenCount
    let shape = model.shape.ofOneLayer
    cache = KVCache(shape: shape, type: cacheType)
    cache.reserve(tokenCount, writingFrom: 0)
    workspace = Workspace(shape: shape, tokenCapacity: Self.chunkLength)
    var random: UInt32 = 1
    func noise() -> Float {
      random = random &* 1_664_525 &+ 1_013_904_223
      return Float(Int32(bitPattern: random)) * 0x1p-30
    }
    let width = shape.paddedHeadSize
    let head = UnsafeMutableBufferPointer<Float>.allocate(capacity: 2 * width)
    defer { head.deallocate() }
    for position in 0..<tokenCount {
      for keyValueHead in 0..<shape.keyValueHeadCount {
        for index in head.indices { head[index] = noise() }
        _ = model.kernels.enter(
          key: head.baseAddress!, value: head.baseAddress! + width, size: shape.headSize,
          position: position % AttentionTile.positions,
          tile: cache.layout.tiles(layer: 0, head: keyValueHead)[
            position / AttentionTile.positions])
      }
    }
    for token in 0..<Self.chunkLength {
      for index in 0..<shape.headCount * width { workspace.rotated[token][index] = noise() }
    }
  }

  /// Multiplications and additions of all layers for the prompt: two each for every query head, element
  /// and position that it attends to.
  public var operationCount: Double {
    let shape = model.shape
    let pairs = Double(tokenCount) * Double(tokenCount + 1) / 2
    return 4 * pairs * Double(shape.headCount * shape.headSize * shape.attentionLayerCount)
  }

  /// Seconds that the attention of all layers would take: those of one, times their number.
  public func run() -> Double {
    let compute = Compute(
      kernels: model.kernels, pool: model.pool, precision: .int8, tokenCount: Self.chunkLength)
    let attention = model.decoder.layers.lazy.compactMap(\.attention).first!  // there is one
    let duration = ContinuousClock().measure {
      for position in stride(from: 0, to: tokenCount, by: Self.chunkLength) {
        let count = min(Self.chunkLength, tokenCount - position)
        let segments = [
          Segment(
            tokens: Array(repeating: 0, count: count)[...], position: position, cache: cache,
            state: nil, row: 0)
        ]
        let plan = AttentionPlan(
          segments, shape: model.shape, threadCount: model.pool.threadCount)
        var steps = Steps(compute)
        attention.heads.addAttention(
          layer: 0, context: PassContext(segments, plan: plan), workspace: workspace, to: &steps)
        try? steps.run()  // nothing in it fails
      }
    }
    return duration / .seconds(1) * Double(model.shape.attentionLayerCount)
  }
}
