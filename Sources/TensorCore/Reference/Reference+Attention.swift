extension Reference {
  /// What attention over some positions gives: the streaming softmax of Milakov and Gimelshein
  /// (2018). Divided by `sum`, `output` is the result.
  public struct PartialAttention {
    public var maximum: Float
    public var sum: Float
    /// The weighted sum of values, `headSize` long.
    public var output: [Float]
  }

  /// Attention of one query over the first `count` positions of a tile.
  ///
  /// score[p] = (fma chain over d of query[d] · key[p][d], from 0) · scale; m = max; w[p] =
  /// exp(score[p] − m); the sum adds w[p] to lane p mod 16 and sums the lanes; the output is an fma
  /// chain over p of w[p] · value[p], from 0. Over q8, scores and outputs are made of exact products of
  /// codes: see ``scores(_:_:count:scale:)`` and ``weighCodes(_:_:count:)``.
  ///
  /// - Parameter query: `headSize` (padded) values.
  public static func attend(
    query: UnsafePointer<Float>, tile: AttentionTile, count: Int, scale: Float
  ) -> PartialAttention {
    let headSize = tile.headSize
    var weights: [Float]
    if tile.type == .q8 {
      weights = scores(query, tile, count: count, scale: scale)
    } else {
      weights = (0..<count).map { position in
        var score: Float = 0
        for d in 0..<headSize { score.addProduct(query[d], tile.key(position, d)) }
        return score * scale
      }
    }
    let maximum = weights.reduce(-Float.infinity) { max($0, $1) }
    var lanes = [Float](repeating: 0, count: 16)
    for position in 0..<count {
      weights[position] = exp(weights[position] - maximum)
      lanes[position % 16] += weights[position]
    }
    var output = [Float](repeating: 0, count: headSize)
    if tile.type == .q8 {
      output = weighCodes(weights, tile, count: count)
    } else {
      for d in 0..<headSize {
        for position in 0..<count {
          output[d].addProduct(weights[position], tile.value(position, d))
        }
      }
    }
    return PartialAttention(maximum: maximum, sum: sum(lanes: lanes), output: output)
  }

  /// Scores over q8: the query is quantized whole; with the exact dot of codes, score[p] = dot ·
  /// ((queryScale · scale) · keyScale[p]).
  private static func scores(
    _ query: UnsafePointer<Float>, _ tile: AttentionTile, count: Int, scale: Float
  ) -> [Float] {
    var codes = [Int8](repeating: 0, count: tile.headSize)
    let factor = quantizeHead(query, size: tile.headSize, codes: &codes) * scale
    return (0..<count).map { position in
      var dot: Int32 = 0
      for d in 0..<tile.headSize { dot += Int32(codes[d]) * Int32(tile.key(position, d)) }
      return Float(dot) * (factor * tile.keyScales[position])
    }
  }

  /// Weighted values over q8: weights, times the scales of their values, are quantized in blocks of
  /// 32 positions to 0…127; with the exact dot of codes over a block, output = fma(dot, blockScale,
  /// output), from 0. Positions past `count` weigh 0.
  private static func weighCodes(
    _ weights: [Float], _ tile: AttentionTile, count: Int
  ) -> [Float] {
    var output = [Float](repeating: 0, count: tile.headSize)
    for first in stride(from: 0, to: count, by: 32) {
      let block = first..<min(first + 32, count)
      let products = block.map { weights[$0] * tile.valueScales[$0] }
      let amax = products.reduce(0) { max($0, $1) }
      let vanishes = amax < 0x1p-100
      let inverse = vanishes ? 0 : 127 / amax
      // What is not a number is so in the sum of weights, too.
      let codes = products.map {
        $0.isNaN ? 0 : Int32(($0 * inverse).rounded(.toNearestOrEven))
      }
      for d in 0..<tile.headSize {
        var dot: Int32 = 0
        for position in block { dot += codes[position - first] * Int32(tile.value(position, d)) }
        output[d].addProduct(Float(dot), vanishes ? 0 : amax / 127)
      }
    }
    return output
  }

  /// Adds what later positions gave: M′ = max(M, m), a = exp(M − M′), b = exp(m − M′); sum =
  /// fma(sum, a, s · b), output = fma(output, a, o · b). The first is taken as it is.
  public static func merge(_ later: PartialAttention, into all: inout PartialAttention?) {
    guard let before = all, before.maximum != -.infinity || before.sum != 0 else {
      all = later
      return
    }
    let merged = max(before.maximum, later.maximum)
    let old = exp(before.maximum - merged)
    let new = exp(later.maximum - merged)
    all = PartialAttention(
      maximum: merged, sum: (later.sum * new).addingProduct(before.sum, old),
      output: zip(before.output, later.output).map { ($1 * new).addingProduct($0, old) })
  }
}
