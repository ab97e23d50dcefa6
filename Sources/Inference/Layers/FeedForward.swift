import TensorCore

/// What a layer does with each token by itself: an MLP, experts, or the sum of both.
struct FeedForward: Sendable {
  /// Nil where there are experts only.
  let mlp: MLP?
  let experts: Experts?

  /// - Parameters:
  ///   - prepare: computes a row of the input.
  ///   - finish: what is done with results.
  /// - Throws: ``PassFailure``.
  func apply(
    to input: Rows, workspace: Workspace, compute: Compute, into result: Rows,
    preparing prepare: @escaping (_ token: Int) -> Void, finishing finish: @escaping RowFinish
  ) throws(PassFailure) {
    guard let experts else {
      let mlp = mlp!
      try mlp.project(input, workspace: workspace, compute: compute, preparing: prepare)
      try mlp.finish(workspace: workspace, compute: compute, into: result, finishing: finish)
      return
    }
    let router = try experts.routerProduct(
      input, isObserved: mlp == nil, workspace: workspace, compute: compute, preparing: prepare)
    // Of a single token all products are short: the MLP's are computed beside those of the experts.
    if let mlp {
      try mlp.project(input, beside: [router], workspace: workspace, compute: compute)
    } else {
      compute.kernels.multiply([router], pool: compute.pool)
    }
    try experts.project(input, workspace: workspace, compute: compute)
    try experts.finish(
      beside: mlp, workspace: workspace, compute: compute, into: result, finishing: finish)
  }
}
