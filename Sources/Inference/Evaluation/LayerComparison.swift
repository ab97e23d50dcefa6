/// Gathers ``LayerDivergence``s: first the reference's hidden states of some tokens at all depths,
/// then those of the model.
final class LayerComparison {
  private let width: Int
  private var reference: [[Float]]
  /// Rows of `reference` that the model's have been compared with, for each depth.
  private var compared: [Int]
  private var sums: [(cosine: Double, error: Double, count: Int)]

  /// - Parameters:
  ///   - depths: layers, and one for the embedding.
  ///   - width: features of a hidden state.
  init(depths: Int, width: Int) {
    self.width = width
    reference = Array(repeating: [], count: depths)
    compared = Array(repeating: 0, count: depths)
    sums = Array(repeating: (0, 0, 0), count: depths)
  }

  /// Forgets the reference's hidden states, for those of other tokens.
  func begin() {
    for depth in reference.indices {
      reference[depth].removeAll(keepingCapacity: true)
      compared[depth] = 0
    }
  }

  /// Keeps hidden states of the reference, of tokens after those it has.
  func keep(_ rows: Rows, count: Int, depth: Int) {
    for row in 0..<count {
      reference[depth] += UnsafeBufferPointer(start: rows[row], count: width)
    }
  }

  /// Compares hidden states of the model, of tokens in the reference's order.
  func add(_ rows: Rows, count: Int, depth: Int) {
    for row in 0..<count {
      let first = compared[depth] * width
      let (cosine, error) = reference[depth].withUnsafeBufferPointer {
        Self.compare($0.baseAddress! + first, UnsafePointer(rows[row]), width)
      }
      compared[depth] += 1
      sums[depth].cosine += cosine
      sums[depth].error += error
      sums[depth].count += 1
    }
  }

  static func compare(
    _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ count: Int
  ) -> (cosine: Double, relativeError: Double) {
    var (aa, bb, ab, difference) = (0.0, 0.0, 0.0, 0.0)
    for index in 0..<count {
      let (x, y) = (Double(a[index]), Double(b[index]))
      aa += x * x
      bb += y * y
      ab += x * y
      difference += (x - y) * (x - y)
    }
    if difference == 0 { return (1, 0) }
    if aa == 0 { return (0, 1) }
    return (bb == 0 ? 0 : ab / (aa * bb).squareRoot(), (difference / aa).squareRoot())
  }

  var result: [LayerDivergence] {
    sums.enumerated().map { depth, sum in
      let count = Double(max(sum.count, 1))
      return LayerDivergence(
        depth: depth, cosine: sum.cosine / count, relativeError: sum.error / count)
    }
  }
}
