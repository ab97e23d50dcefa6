import TensorCore

/// What a layer does with each token by itself: an MLP, experts, or the sum of both.
struct FeedForward: Sendable {
  /// Nil where there are experts only.
  let mlp: MLP?
  let experts: Experts?

  /// Adds the layer's steps; those of experts up to their routing are computed at once.
  ///
  /// - Parameters:
  ///   - prepare: computes a row of the input.
  ///   - finish: what is done with results.
  /// - Throws: ``PassFailure`` of steps that are computed.
  func add(
    to steps: inout Steps, of input: Rows, workspace: Workspace, into result: Rows,
    preparing prepare: @escaping (_ token: Int) -> Void, finishing finish: @escaping RowFinish
  ) throws(PassFailure) {
    guard let experts else {
      let mlp = mlp!
      try mlp.addFeatures(to: &steps, of: input, workspace: workspace, preparing: prepare)
      try mlp.addResult(to: &steps, workspace: workspace, into: result, finishing: finish)
      return
    }
    let router = try experts.routerProduct(
      &steps, input, isObserved: mlp == nil, workspace: workspace, preparing: prepare)
    // Of a single token all products are short: the MLP's are computed beside those of the experts.
    if let mlp {
      try mlp.addFeatures(to: &steps, of: input, beside: [router], workspace: workspace)
    } else {
      steps.add([router])
    }
    let choice = try experts.addFeatures(to: &steps, of: input, workspace: workspace)
    try experts.addResult(
      to: &steps, of: choice, beside: mlp, workspace: workspace, into: result, finishing: finish)
  }
}
