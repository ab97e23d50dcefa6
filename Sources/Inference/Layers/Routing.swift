import ModelFiles
import TensorCore

/// Which experts the tokens of a pass go to, as rows that are grouped by expert: those of one expert
/// follow each other, its tokens in order. Reused from layer to layer.
final class Routing {
  /// Experts that have tokens, ascending.
  private(set) var experts: [Int] = []
  /// Their rows.
  private(set) var batches: [Range<Int>] = []
  /// The token of each row.
  private(set) var tokens: [Int] = []
  /// The rows of each token, experts ascending, and their weights; as many for every token.
  private(set) var rows: [Int] = []
  private(set) var weights: [Float] = []
  /// The experts of each token, as ``rows``.
  private var chosen: [Int] = []
  private var counts: [Int] = []

  /// Sends each token to the `used` of `count` experts that its logits choose.
  func route(_ logits: Rows, tokenCount: Int, count: Int, used: Int, pool: WorkerPool) {
    let total = tokenCount * used
    if chosen.count != total {
      chosen = Array(repeating: 0, count: total)
      (rows, tokens) = (chosen, chosen)
      weights = Array(repeating: 0, count: total)
    }
    choose(logits, tokenCount: tokenCount, count: count, used: used, pool: pool)
    counts.removeAll(keepingCapacity: true)
    counts.append(contentsOf: repeatElement(0, count: count))
    for expert in chosen { counts[expert] += 1 }
    experts.removeAll(keepingCapacity: true)
    batches.removeAll(keepingCapacity: true)
    var first = 0
    for expert in 0..<count where counts[expert] > 0 {
      experts.append(expert)
      batches.append(first..<first + counts[expert])
      counts[expert] = first  // from here on the expert's next row
      first = batches.last!.upperBound
    }
    for place in chosen.indices {
      let row = counts[chosen[place]]
      counts[chosen[place]] += 1
      rows[place] = row
      tokens[row] = place / used
    }
  }

  private func choose(
    _ logits: Rows, tokenCount: Int, count: Int, used: Int, pool: WorkerPool
  ) {
    chosen.withUnsafeMutableBufferPointer { chosen in
      weights.withUnsafeMutableBufferPointer { weights in
        let chosen = SharedPointer(chosen.baseAddress!)
        let weights = SharedPointer(weights.baseAddress!)
        pool.parallelRanges(tokenCount, minimum: 8) { tokens in
          for token in tokens {
            let (experts, weights) = (
              chosen.pointer + token * used, weights.pointer + token * used
            )
            Reference.route(
              logits[token], count: count, used: used, chosen: experts, weights: weights)
            Self.sort(experts, weights, count: used)
          }
        }
      }
    }
  }

  /// Sorts by expert.
  private static func sort(
    _ experts: UnsafeMutablePointer<Int>, _ weights: UnsafeMutablePointer<Float>, count: Int
  ) {
    for end in 1..<count {
      var place = end
      while place > 0, experts[place - 1] > experts[place] {
        swap(&experts[place - 1], &experts[place])
        swap(&weights[place - 1], &weights[place])
        place -= 1
      }
    }
  }
}

/// The memory of mixtures of experts in a ``Workspace``.
final class ExpertWorkspace {
  let routing = Routing()
  /// The experts of a single token, for products that are added before it is known.
  let choice: UnsafeMutablePointer<Int>
  /// What the router reads.
  let routed: Activations
  /// What the gate and up projections take, of all rows of a routing.
  let activations: Activations
  /// What the down projections take.
  let features: Activations
  /// Of the router.
  let logits: Rows
  /// Gate and up projections of every row, side by side.
  let gateUp: Rows
  /// What the experts make of every row.
  let output: Rows
  /// What the MLP beside the experts makes of every token.
  let shared: Rows
  private let choiceBuffer: AlignedBuffer
  private let memory: AlignedBuffer

  init?(shape: ModelShape, tokenCapacity: Int) {
    guard let experts = shape.experts else { return nil }
    let rowCapacity = tokenCapacity * experts.usedCount
    routed = Activations(maximumTokens: tokenCapacity, maximumColumns: shape.hiddenSize)
    activations = Activations(maximumTokens: rowCapacity, maximumColumns: shape.hiddenSize)
    features = Activations(
      maximumTokens: rowCapacity, maximumColumns: experts.intermediateSize)
    choiceBuffer = AlignedBuffer(byteCount: experts.usedCount * 8)
    choice = choiceBuffer.base.assumingMemoryBound(to: Int.self)
    let strides = Self.strides(shape, experts)
    let capacities = [tokenCapacity, rowCapacity, rowCapacity, tokenCapacity]
    memory = AlignedBuffer(byteCount: 4 * zip(strides, capacities).reduce(0) { $0 + $1.0 * $1.1 })
    var next = memory.floats
    let parts = zip(strides, capacities).map { stride, capacity in
      defer { next += stride * capacity }
      return Rows(next, stride: stride)
    }
    (logits, gateUp, output, shared) = (parts[0], parts[1], parts[2], parts[3])
  }

  /// Of logits, gate and up, output, shared.
  private static func strides(_ shape: ModelShape, _ experts: ExpertConfiguration) -> [Int] {
    let hidden = padded(shape.hiddenSize)
    return [padded(experts.count), padded(2 * experts.intermediateSize), hidden, hidden]
  }

  /// Bytes for each token of the capacity.
  static func byteCountPerToken(_ shape: ModelShape) -> Int {
    guard let experts = shape.experts else { return 0 }
    let strides = strides(shape, experts)
    // Codes of activations, their scales and starts, and a routing of four words.
    let columns = shape.hiddenSize + experts.intermediateSize
    let perRow = 4 * (strides[1] + strides[2]) + columns * 3 / 2 + 32
    // The router takes float32.
    return 4 * (strides[0] + strides[3] + shape.hiddenSize) + experts.usedCount * perRow
  }
}
