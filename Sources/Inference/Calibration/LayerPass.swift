public import ModelFiles
public import TensorCore

/// The features that some linear layers of a model read, as a layer pass shows them: valid during
/// the call.
public struct ObservedInput {
  /// Which layers read them.
  public let kind: LinearInput
  /// The expert whose layer it is, of ``LinearInput/experts`` and ``LinearInput/expertDown``: it sees
  /// some of the tokens only.
  public let expert: Int?
  /// Row t begins at `t · stride`.
  public let rows: UnsafePointer<Float>
  /// Floats from one row to the next.
  public let stride: Int
  public let tokenCount: Int
  /// Features of each token.
  public let columns: Int
}

/// The weights of one decoder layer.
public struct LayerWeights: Sendable {
  let index: Int
  let layer: DecoderLayer
  let residualMultiplier: Float

  /// Loads layer `index`, and nothing else, from a source.
  ///
  /// - Throws: what the source throws.
  public init(
    layer index: Int, configuration: ModelConfiguration, weights: any WeightSource,
    pool: WorkerPool
  ) throws {
    var loader = ModelLoader(configuration: configuration, weights: weights, pool: pool) { _, _ in }
    self.index = index
    layer = try loader.layer(index)
    residualMultiplier = configuration.residualMultiplier
  }
}

/// Takes stored hidden states through one layer after another: whoever holds them needs the weights
/// of a single layer at a time, and sees what its linear layers read.
///
/// Hidden states belong to windows of tokens, each a sequence of its own from position 0. Activations
/// are quantized to int8, keys and values are kept in float32; results are the same bits for any
/// number of threads and on any instruction set.
public final class LayerPass {
  private let configuration: ModelConfiguration
  private let compute: (_ tokenCount: Int) -> Compute
  private let shape: ModelShape
  private let cache: KVCache
  private let state: RecurrentState?
  private let workspace: Workspace
  private let rotary: RotaryTable?

  /// - Parameter windowLength: tokens of the longest window; scratch memory is that of a chunk.
  public init(
    _ configuration: ModelConfiguration, windowLength: Int, pool: WorkerPool, kernels: Kernels
  ) {
    self.configuration = configuration
    compute = { Compute(kernels: kernels, pool: pool, precision: .int8, tokenCount: $0) }
    shape = ModelShape(configuration).ofOneLayer
    cache = KVCache(shape: shape, type: .f32)
    cache.reserve(windowLength, writingFrom: 0)
    state = RecurrentState(shape, type: .f32)
    // Chunks of a window are of one length: a short one takes almost as long.
    let chunkCount = (windowLength + Session.defaultChunkLength - 1) / Session.defaultChunkLength
    workspace = Workspace(
      shape: shape, tokenCapacity: (windowLength + chunkCount - 1) / chunkCount)
    rotary = RotaryTable(configuration)
  }

  /// Replaces the hidden states of one window by what a layer makes of them.
  ///
  /// - Parameters:
  ///   - hidden: row-major, `hiddenSize` features of each token.
  ///   - observe: called with what linear layers read, a chunk of tokens at a time, in order.
  /// - Throws: ``InferenceError/nonFiniteActivation(position:layer:)``,
  ///   ``InferenceError/cacheRange(type:position:layer:)``; positions are those in the window, whose
  ///   hidden states are then no longer of use.
  /// - Precondition: a whole number of tokens, not more than the pass was made for.
  public func run(
    _ weights: LayerWeights, over hidden: UnsafeMutableBufferPointer<Float>,
    observe: (ObservedInput) -> Void
  ) throws(InferenceError) {
    state?.reset()
    try forEachChunk(of: hidden, layer: weights.index) { segment, compute throws(PassFailure) in
      rotary?.fill(segment, in: workspace, pool: compute.pool)
      let context = PassContext(
        [segment],
        plan: AttentionPlan([segment], shape: shape, threadCount: compute.pool.threadCount))
      let outcome = withoutActuallyEscaping(observe) { observe in
        var compute = compute
        compute.observer = observe
        return Result { () throws(PassFailure) in
          try weights.layer.steps(
            place: 0, residualMultiplier: weights.residualMultiplier, context: context,
            workspace: workspace, compute: compute
          ).run()
        }
      }
      try outcome.get()
    }
  }

  /// Shows what the output projection reads after the last layer.
  ///
  /// - Parameters:
  ///   - hidden: as for ``run(_:over:observe:)``; stays as it is.
  ///   - weight: of the final norm.
  ///   - bias: of the final norm, if it has one.
  public func finish(
    over hidden: UnsafeMutableBufferPointer<Float>, norm weight: [Float], bias: [Float]? = nil,
    observe: (ObservedInput) -> Void
  ) {
    let norm = Norm(weight: weight, bias: bias, epsilon: configuration.normEpsilon)
    // Nothing in the body fails.
    try? forEachChunk(of: hidden, layer: nil) { segment, compute throws(PassFailure) in
      compute.apply(norm, to: workspace.hidden, into: workspace.normalized)
      observe(
        ObservedInput(
          kind: .output, expert: nil, rows: workspace.normalized.pointer,
          stride: workspace.normalized.stride,
          tokenCount: segment.tokens.count, columns: shape.hiddenSize))
    }
  }

  /// Calls `body` with the tokens of a window, some at a time, while their hidden states are in the
  /// workspace.
  private func forEachChunk(
    of hidden: UnsafeMutableBufferPointer<Float>, layer: Int?,
    _ body: (Segment, Compute) throws(PassFailure) -> Void
  ) throws(InferenceError) {
    let width = shape.hiddenSize
    precondition(hidden.count % width == 0)
    let count = hidden.count / width
    for first in stride(from: 0, to: count, by: workspace.tokenCapacity) {
      let chunk = min(workspace.tokenCapacity, count - first)
      let rows = hidden.baseAddress! + first * width
      for token in 0..<chunk {
        workspace.hidden[token].update(from: rows + token * width, count: width)
      }
      // Only the number of tokens matters: they have been embedded.
      let segment = Segment(
        tokens: Array(repeating: 0, count: chunk)[...], position: first, cache: cache, state: state,
        row: 0)
      do throws(PassFailure) {
        try body(segment, compute(chunk))
      } catch {
        let failure = PassFailure(row: error.row, reason: error.reason, layer: layer)
        throw failure.error(position: first + error.row, cacheType: cache.type)
      }
      for token in 0..<chunk {
        (rows + token * width).update(from: workspace.hidden[token], count: width)
      }
    }
  }
}
