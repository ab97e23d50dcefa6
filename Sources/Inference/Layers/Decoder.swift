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

  let inputNorm: Norm
  let mixer: Mixer
  let postAttentionNorm: Norm
  let feedForward: FeedForward

  /// Nil where tokens are mixed otherwise.
  var attention: Attention? {
    if case .attention(let attention) = mixer { attention } else { nil }
  }

  /// Adds the layer's branches, times `residualMultiplier`, to the residual stream in
  /// `workspace.hidden`.
  ///
  /// - Parameter place: of the layer in the segments' caches or states.
  /// - Throws: ``PassFailure``.
  func apply(
    to segments: [Segment], place: Int, residualMultiplier: Float, plan: AttentionPlan,
    workspace: Workspace, compute: Compute
  ) throws(PassFailure) {
    let (hidden, normalized, branch) = (workspace.hidden, workspace.normalized, workspace.branch)
    let normalize = { compute.apply(inputNorm, to: hidden[$0], into: normalized[$0]) }
    let hiddenSize = inputNorm.count
    let add: RowFinish = { token, rows in
      let (sum, terms) = (hidden[token], branch[token])
      for feature in rows.lowerBound..<min(rows.upperBound, hiddenSize) {
        sum[feature] += terms[feature] * residualMultiplier
      }
    }
    switch mixer {
    case .attention(let attention):
      try attention.apply(
        to: normalized, layer: place, segments: segments, plan: plan, workspace: workspace,
        compute: compute, into: branch, preparing: normalize, finishing: add)
    case .mamba(let mamba):
      try mamba.apply(
        to: normalized, place: place, segments: segments, workspace: workspace, compute: compute,
        into: branch, preparing: normalize, finishing: add)
    }
    try feedForward.apply(
      to: normalized, workspace: workspace, compute: compute, into: branch,
      preparing: { compute.apply(postAttentionNorm, to: hidden[$0], into: normalized[$0]) },
      finishing: add)
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

  /// Takes the tokens of all segments through all layers; leaves the residual stream in
  /// `workspace.hidden`.
  ///
  /// - Parameter observe: called with the number of layers passed, from none on, and the residual
  ///   stream there.
  /// - Throws: ``PassFailure``.
  func forward(
    _ segments: [Segment], plan: AttentionPlan, workspace: Workspace, compute: Compute,
    observe: ((_ depth: Int, _ hidden: Rows) -> Void)?
  ) throws(PassFailure) {
    for segment in segments { begin(segment, workspace: workspace, pool: compute.pool) }
    observe?(0, workspace.hidden)
    var (attentionPlace, mambaPlace) = (0, 0)
    for index in layers.indices {
      let place: Int
      switch layers[index].mixer {
      case .attention: (place, attentionPlace) = (attentionPlace, attentionPlace + 1)
      case .mamba: (place, mambaPlace) = (mambaPlace, mambaPlace + 1)
      }
      do throws(PassFailure) {
        try layers[index].apply(
          to: segments, place: place, residualMultiplier: residualMultiplier, plan: plan,
          workspace: workspace, compute: compute)
      } catch {
        throw PassFailure(row: error.row, reason: error.reason, layer: index)
      }
      observe?(index + 1, workspace.hidden)
    }
  }

  /// Logits that follow some rows of the residual stream: `logits[i]` those of `rows[i]`.
  ///
  /// - Parameter compute: for as many tokens as there are rows.
  /// - Throws: ``PassFailure``; its row is an index in `rows`.
  func logits(
    of rows: [Int], workspace: Workspace, compute: Compute, into logits: Rows
  ) throws(PassFailure) {
    try compute.apply(
      [(output, logits)], to: workspace.normalized, .output, activations: workspace.activations,
      preparing: { index in
        compute.apply(norm, to: workspace.hidden[rows[index]], into: workspace.normalized[index])
      },
      finishing: logitsScaling == 1
        ? nil
        : { index, ids in
          let row = logits[index]
          for id in ids { row[id] /= logitsScaling }
        })
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
