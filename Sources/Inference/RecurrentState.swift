import ModelFiles
import TensorCore

/// What the Mamba2 layers of a model remember of a sequence: for each the last inputs of its convolution
/// and the states of its heads. Unlike keys and values it does not grow, and knows one position only.
final class RecurrentState {
  /// Tokens that it has taken in; nil while, and after, a pass that failed changes it.
  var position: Int? = 0
  private let shape: MambaShape
  private let layerCount: Int
  private let buffer: AlignedBuffer
  private let budget: CacheBudget?
  /// Tiles of a KV cache that it counts as.
  let tileCount: Int
  /// Whether it is a copy to start from, which no pass changes.
  private let isKept: Bool
  /// When a sequence that begins with it was last started, as ``CacheBudget/uses`` counts.
  var lastUse = 0

  /// Nil for a model without such layers.
  ///
  /// - Parameter type: of the KV cache whose tiles are the budget's measure.
  init?(_ shape: ModelShape, type: CacheType, budget: CacheBudget? = nil) {
    guard let mamba = shape.mamba else { return nil }
    self.shape = mamba
    self.budget = budget
    layerCount = shape.recurrentLayerCount
    buffer = AlignedBuffer(byteCount: Self.byteCount(shape))
    tileCount = CacheBudget.stateTileCount(shape, type)
    isKept = false
    count(tileCount)
  }

  /// Another one that has seen the same.
  ///
  /// - Parameter isKept: whether it is to start from, and not to go on with.
  init(copying other: RecurrentState, isKept: Bool = false) {
    (shape, layerCount, budget) = (other.shape, other.layerCount, other.budget)
    (position, tileCount) = (other.position, other.tileCount)
    self.isKept = isKept
    buffer = AlignedBuffer(byteCount: other.buffer.byteCount)
    buffer.base.copyMemory(from: other.buffer.base, byteCount: buffer.byteCount)
    count(tileCount)
  }

  deinit { count(-tileCount) }

  private func count(_ tiles: Int) {
    budget?.tileCount += tiles
    if isKept { budget?.keptTileCount += tiles }
  }

  /// Where the layers' parts are; valid as long as the state.
  struct Layout {
    fileprivate let floats: UnsafeMutablePointer<Float>
    fileprivate let shape: MambaShape
    fileprivate let layerCount: Int

    /// Inputs of a layer's convolution, oldest first.
    func window(_ place: Int) -> Rows {
      Rows(floats + place * windowCount(shape), stride: shape.channelCount)
    }

    /// The states of a layer's heads; see `StateSpaceScan`.
    func heads(_ place: Int) -> Rows {
      let size = headCount(shape)
      return Rows(
        floats + padded(layerCount * windowCount(shape)) + place * shape.headCount * size,
        stride: size)
    }
  }

  var layout: Layout { Layout(floats: buffer.floats, shape: shape, layerCount: layerCount) }

  /// Forgets everything.
  func reset() {
    buffer.base.initializeMemory(as: UInt8.self, repeating: 0, count: buffer.byteCount)
    position = 0
  }

  /// Bytes of the state of one sequence; 0 for a model without such layers.
  static func byteCount(_ shape: ModelShape) -> Int {
    guard let mamba = shape.mamba else { return 0 }
    let count = shape.recurrentLayerCount
    return 4
      * (padded(count * windowCount(mamba)) + count * mamba.headCount * headCount(mamba))
  }

  private static func windowCount(_ shape: MambaShape) -> Int {
    (shape.convolutionSize - 1) * shape.channelCount
  }

  private static func headCount(_ shape: MambaShape) -> Int {
    shape.stateSize * StateSpaceScan.padded(shape.headSize)
  }
}
