import TensorCore

/// Grouped-query attention, with rotary positions or without.
struct Attention: Sendable {
  /// The projections of what attention reads, as checkpoints hold them.
  enum Input: Sendable {
    case separate(query: Linear, key: Linear, value: Linear)
    /// One matrix: the rows of query, then those of key and of value.
    case fused(Linear)

    var linears: [Linear] {
      switch self {
      case .separate(let query, let key, let value): [query, key, value]
      case .fused(let all): [all]
      }
    }
  }

  let input: Input
  let output: Linear
  let heads: AttentionHeads

  /// Adds `output(softmax(q kᵀ · scale) v)` for every token; their keys and values enter the
  /// caches. The workspace holds the rotary angles of their positions.
  ///
  /// - Parameters:
  ///   - prepare: computes a row of the input.
  ///   - finish: what is done with results.
  /// - Throws: ``PassFailure`` of earlier steps.
  func add(
    to steps: inout Steps, of input: Rows, layer: Int, context: PassContext,
    workspace: Workspace, into result: Rows, preparing prepare: @escaping (_ token: Int) -> Void,
    finishing finish: RowFinish?
  ) throws(PassFailure) {
    let key: Rows
    let value: Rows
    switch self.input {
    case .separate(let queryLayer, let keyLayer, let valueLayer):
      (key, value) = (workspace.key, workspace.value)
      try steps.add(
        [(queryLayer, workspace.query), (keyLayer, key), (valueLayer, value)], of: input,
        .attention, activations: workspace.activations, preparing: prepare)
    case .fused(let layer):
      let all = workspace.query
      key = Rows(all.pointer + heads.count * heads.size, stride: all.stride)
      value = Rows(key.pointer + heads.keyValueCount * heads.size, stride: all.stride)
      try steps.add(
        [(layer, all)], of: input, .attention, activations: workspace.activations,
        preparing: prepare)
    }
    heads.addEntering(
      key: key, value: value, layer: layer, context: context, workspace: workspace, to: &steps)
    heads.addAttention(layer: layer, context: context, workspace: workspace, to: &steps)
    let (heads, results) = (heads, workspace.context)
    let isPadded = padded(heads.size) != heads.size
    try steps.add(
      [(output, result)], of: results, .attentionOutput, activations: workspace.activations,
      preparing: isPadded ? { heads.removePadding(of: results[$0]) } : nil, finishing: finish)
  }
}
