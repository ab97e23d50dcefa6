import TensorCore
import Tokenization

/// One layer of the decoder.
struct DecoderLayer: Sendable {
  let inputNorm: RMSNorm
  let attention: Attention
  let postAttentionNorm: RMSNorm
  let mlp: MLP
}

/// The decoder of Granite, and of Llama with all multipliers 1: a residual stream to which every
/// layer adds attention and feed-forward branches of the normalized stream.
struct Decoder: Sendable {
  let embedding: WeightMatrix
  /// Nil for a model without positions.
  let rotary: RotaryTable?
  let layers: [DecoderLayer]
  let norm: RMSNorm
  /// The embedding itself where the checkpoint ties them.
  let output: Linear
  let embeddingMultiplier: Float
  let residualMultiplier: Float
  /// Divides the logits.
  let logitsScaling: Float

  var hiddenSize: Int { embedding.geometry.columns }

  /// Takes a chunk of tokens, the first at `position`, through all layers; leaves the residual stream
  /// in `workspace.hidden`.
  ///
  /// - Throws: ``InferenceError/nonFiniteActivation(position:layer:)``.
  func forward(
    _ tokens: ArraySlice<TokenID>, position: Int, cache: KVCache, workspace: Workspace,
    compute: Compute
  ) throws(InferenceError) {
    let (hidden, normalized, branch) = (workspace.hidden, workspace.normalized, workspace.branch)
    embed(tokens, into: hidden, pool: compute.pool)
    for token in 0..<tokens.count {
      rotary?.fill(
        position: position + token, cosines: workspace.cosines[token],
        sines: workspace.sines[token])
    }
    for (index, layer) in layers.enumerated() {
      do throws(NonFiniteActivation) {
        compute.apply(layer.inputNorm, to: hidden, into: normalized)
        try layer.attention.apply(
          to: normalized, position: position, cache: cache.layer(index), workspace: workspace,
          compute: compute, into: branch)
        compute.add(branch, times: residualMultiplier, to: hidden, count: hiddenSize)

        compute.apply(layer.postAttentionNorm, to: hidden, into: normalized)
        try layer.mlp.apply(
          to: normalized, workspace: workspace, compute: compute, into: branch)
        compute.add(branch, times: residualMultiplier, to: hidden, count: hiddenSize)
      } catch {
        throw .nonFiniteActivation(position: position + error.token, layer: index)
      }
    }
  }

  /// The logits of as many tokens as `compute` says: `logits[t]`, for the residual stream `hidden`.
  ///
  /// - Throws: ``NonFiniteActivation``.
  func logits(
    of hidden: Rows, workspace: Workspace, compute: Compute, into logits: Rows
  ) throws(NonFiniteActivation) {
    compute.apply(norm, to: hidden, into: workspace.normalized)
    try compute.apply(
      [(output, logits)], to: workspace.normalized, activations: workspace.activations)
    if logitsScaling == 1 { return }
    compute.pool.parallelFor(compute.tokenCount) { token in
      let row = logits[token]
      for id in 0..<output.weight.geometry.rows { row[id] /= logitsScaling }
    }
  }

  private func embed(_ tokens: ArraySlice<TokenID>, into hidden: Rows, pool: WorkerPool) {
    pool.parallelFor(tokens.count) { index in
      let row = hidden[index]
      embedding.copyRow(Int(tokens[tokens.startIndex + index]), into: row)
      for feature in 0..<hiddenSize { row[feature] *= embeddingMultiplier }
    }
  }
}
