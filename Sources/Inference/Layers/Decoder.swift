import ModelFiles
import TensorCore
import Tokenization

/// One layer of the decoder.
struct DecoderLayer: Sendable {
  /// What lets tokens see those before them.
  enum Mixer: Sendable {
    case attention(Attention)
    case mamba(Mamba)
  }

  /// Of the layer among those with such a mixer.
  let place: Int
  let inputNorm: Norm
  let mixer: Mixer
  let postAttentionNorm: Norm
  let feedForward: FeedForward

  /// Nil where tokens are mixed otherwise.
  var attention: Attention? {
    if case .attention(let attention) = mixer { attention } else { nil }
  }

  /// Whether ``steps(place:residualMultiplier:context:workspace:compute:)`` computes nothing.
  func hasFixedSteps(with compute: Compute) -> Bool {
    compute.observer == nil && (feedForward.experts == nil || compute.tokenCount == 1)
  }

  /// Steps that add the layer's branches, times `residualMultiplier`, to the residual stream in
  /// `workspace.hidden`. Those that others depend on may be computed at once.
  ///
  /// - Parameter place: of the layer in the sequences' caches or states.
  /// - Throws: ``PassFailure`` of steps that are computed.
  func steps(
    place: Int, residualMultiplier: Float, context: PassContext, workspace: Workspace,
    compute: Compute
  ) throws(PassFailure) -> Steps {
    let (hidden, normalized, branch) = (workspace.hidden, workspace.normalized, workspace.branch)
    let normalize = { compute.apply(inputNorm, to: hidden[$0], into: normalized[$0]) }
    let hiddenSize = inputNorm.count
    let add: RowFinish = { token, rows in
      let (sum, terms) = (hidden[token], branch[token])
      for feature in rows.lowerBound..<min(rows.upperBound, hiddenSize) {
        sum[feature] += terms[feature] * residualMultiplier
      }
    }
    var steps = Steps(compute)
    switch mixer {
    case .attention(let attention):
      try attention.add(
        to: &steps, of: normalized, layer: place, context: context, workspace: workspace,
        into: branch, preparing: normalize, finishing: add)
    case .mamba(let mamba):
      try mamba.add(
        to: &steps, of: normalized, place: place, context: context, workspace: workspace,
        into: branch, preparing: normalize, finishing: add)
    }
    try feedForward.add(
      to: &steps, of: normalized, workspace: workspace, into: branch,
      preparing: { compute.apply(postAttentionNorm, to: hidden[$0], into: normalized[$0]) },
      finishing: add)
    return steps
  }
}

/// The decoder of Granite, and of Llama with all multipliers 1: a residual stream to which every
/// layer adds a branch that mixes tokens, attention or Mamba2, and a feed-forward branch, both of the
/// normalized stream.
struct Decoder: Sendable {
  let embedding: WeightMatrix
  /// Learned vectors that are added to the embedding, a row for each position.
  let positions: WeightMatrix?
  /// Nil for a model without rotary positions.
  let rotary: RotaryTable?
  let layers: [DecoderLayer]
  let norm: Norm
  /// The embedding itself where the checkpoint ties them.
  let output: Linear
  let embeddingMultiplier: Float
  let residualMultiplier: Float
  /// Divides the logits.
  let logitsScaling: Float

  var hiddenSize: Int { embedding.geometry.columns }

  /// Embeds the tokens of all segments.
  func begin(_ segments: [Segment], workspace: Workspace, pool: WorkerPool) {
    for segment in segments { begin(segment, workspace: workspace, pool: pool) }
  }

  /// Whether no layer's steps depend on what is computed.
  func hasFixedSteps(with compute: Compute) -> Bool {
    layers.allSatisfy { $0.hasFixedSteps(with: compute) }
  }

  /// The steps of all layers, where they are fixed.
  func steps(
    context: PassContext, workspace: Workspace, compute: Compute
  ) throws(PassFailure) -> Steps {
    var all = Steps(compute)
    for index in layers.indices {
      all.add(try steps(index, context, workspace, compute), layer: index)
    }
    return all
  }

  /// Takes the tokens of all segments through all layers, one after the other; leaves the residual
  /// stream in `workspace.hidden`.
  ///
  /// - Parameter observe: called with the number of layers passed, from none on, and the residual
  ///   stream there.
  /// - Throws: ``PassFailure``.
  func forward(
    context: PassContext, workspace: Workspace, compute: Compute,
    observe: ((_ depth: Int, _ hidden: Rows) -> Void)?
  ) throws(PassFailure) {
    observe?(0, workspace.hidden)
    for index in layers.indices {
      do throws(PassFailure) {
        try steps(index, context, workspace, compute).run()
      } catch {
        throw error.inLayer(index)
      }
      observe?(index + 1, workspace.hidden)
    }
  }

  private func steps(
    _ index: Int, _ context: PassContext, _ workspace: Workspace, _ compute: Compute
  ) throws(PassFailure) -> Steps {
    try layers[index].steps(
      place: layers[index].place, residualMultiplier: residualMultiplier, context: context,
      workspace: workspace, compute: compute)
  }

  /// Logits that follow some rows of the residual stream: `logits[i]` those of `rows[i]`.
  ///
  /// - Parameter compute: for as many tokens as there are rows.
  /// - Throws: ``PassFailure``; its row is an index in `rows`.
  func logits(
    of rows: [Int], workspace: Workspace, compute: Compute, into logits: Rows
  ) throws(PassFailure) {
    var steps = Steps(compute)
    try steps.add(
      [(output, logits)], of: workspace.normalized, .output, activations: workspace.activations,
      preparing: { index in
        compute.apply(norm, to: workspace.hidden[rows[index]], into: workspace.normalized[index])
      },
      finishing: logitsScaling == 1
        ? nil
        : { index, ids in
          let row = logits[index]
          for id in ids { row[id] /= logitsScaling }
        })
    try steps.run()
  }

  /// Embeds the tokens of a segment, and the angles of their positions.
  private func begin(_ segment: Segment, workspace: Workspace, pool: WorkerPool) {
    pool.parallelFor(segment.tokens.count) { index in
      let row = workspace.hidden[segment.row + index]
      embedding.copyRow(Int(segment.tokens[segment.tokens.startIndex + index]), into: row)
      for feature in 0..<hiddenSize { row[feature] *= embeddingMultiplier }
      positions?.addRow(
        segment.position + index, to: row, scratch: workspace.normalized[segment.row + index])
    }
    rotary?.fill(segment, in: workspace, pool: pool)
  }
}

extension WeightMatrix {
  /// Adds the dequantized values of one row to others.
  fileprivate func addRow(
    _ row: Int, to sum: UnsafeMutablePointer<Float>, scratch: UnsafeMutablePointer<Float>
  ) {
    copyRow(row, into: scratch)
    for column in 0..<geometry.columns { sum[column] += scratch[column] }
  }
}

extension RotaryTable {
  /// The angles of a model; nil for one without positions.
  init?(_ configuration: ModelConfiguration) {
    guard configuration.usesRotaryPositions else { return nil }
    self.init(headSize: configuration.headSize, theta: configuration.ropeTheta)
  }

  /// Writes the angles of a segment's positions to its rows of a workspace.
  func fill(_ segment: Segment, in workspace: Workspace, pool: WorkerPool) {
    pool.parallelFor(segment.tokens.count) { index in
      fill(
        position: segment.position + index, cosines: workspace.cosines[segment.row + index],
        sines: workspace.sines[segment.row + index])
    }
  }
}
