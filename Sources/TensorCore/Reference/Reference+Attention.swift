/// The keys and values of up to 256 positions of one KV head, as kernels read them.
///
/// Keys are interleaved sixteen positions at a time (`keys[(p / 16) · paddedHeadSize · 16 + d · 16 +
/// p % 16]`), so that positions sit in lanes; values are row-major (`values[p · paddedHeadSize +
/// d]`). Head sizes pad to a multiple of 16 with zeros. The last group of sixteen keys must be
/// readable to its end; what it holds past `count` does not matter.
public struct AttentionTile {
  /// Positions in a tile; tiles are aligned to position 0.
  public static let positions = 256

  public let keys: UnsafePointer<Float>
  public let values: UnsafePointer<Float>
  /// Positions that hold something and may be attended to, 1...256.
  public let count: Int

  public init(keys: UnsafePointer<Float>, values: UnsafePointer<Float>, count: Int) {
    self.keys = keys
    self.values = values
    self.count = count
  }
}

extension Reference {
  /// Adds one tile to the attention of one query: the streaming softmax of Milakov and Gimelshein
  /// (2018) over tiles in order of position.
  ///
  /// score[p] = (fma chain over d of query[d] · key[p][d], from 0) · scale; m = max; w[p] =
  /// exp(score[p] − m); the tile's sum adds w[p] to lane p mod 16 and sums the lanes; its output is
  /// an fma chain over p of w[p] · value[p], from 0. The first tile is taken as it is; a later one
  /// merges by M′ = max(M, m), a = exp(M − M′), b = exp(m − M′): sum = fma(sum, a, s · b), output =
  /// fma(output, a, o · b).
  ///
  /// - Parameters:
  ///   - query: `headSize` (padded) values.
  ///   - state: running maximum and sum; `(-infinity, 0)` before the first tile.
  ///   - output: running weighted sum of values, `headSize` long; divided by the sum it is the
  ///     result (``finishAttention``).
  public static func attend(
    query: UnsafePointer<Float>, tile: AttentionTile, headSize: Int, scale: Float,
    state: inout (maximum: Float, sum: Float), output: UnsafeMutablePointer<Float>
  ) {
    var weights = [Float](repeating: 0, count: tile.count)
    var maximum = -Float.infinity
    for position in 0..<tile.count {
      let key = tile.keys + (position / 16) * headSize * 16 + position % 16
      var score: Float = 0
      for d in 0..<headSize { score.addProduct(query[d], key[d * 16]) }
      weights[position] = score * scale
      maximum = max(maximum, weights[position])
    }
    var lanes = [Float](repeating: 0, count: 16)
    for position in 0..<tile.count {
      weights[position] = exp(weights[position] - maximum)
      lanes[position % 16] += weights[position]
    }
    let sum = sum(lanes: lanes)
    let first = state.maximum == -.infinity && state.sum == 0
    let merged = max(state.maximum, maximum)
    let old = first ? 0 : exp(state.maximum - merged)
    let new = first ? 1 : exp(maximum - merged)
    for d in 0..<headSize {
      var value: Float = 0
      for position in 0..<tile.count {
        value.addProduct(weights[position], tile.values[position * headSize + d])
      }
      output[d] = first ? value : (value * new).addingProduct(output[d], old)
    }
    state = (merged, first ? sum : (sum * new).addingProduct(state.sum, old))
  }

  /// Divides the weighted sum of values by the sum of weights.
  public static func finishAttention(
    sum: Float, headSize: Int, output: UnsafeMutablePointer<Float>
  ) {
    for d in 0..<headSize { output[d] /= sum }
  }
}
