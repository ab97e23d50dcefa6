import TensorCore

/// What a layer does with each token by itself: an MLP, experts, or the sum of both.
struct FeedForward: Sendable {
  /// Nil where there are experts only.
  let mlp: MLP?
  let experts: Experts?

  /// - Parameter prepare: computes a row of the input.
  /// - Throws: ``PassFailure``.
  func apply(
    to input: Rows, workspace: Workspace, compute: Compute, into result: Rows,
    preparing prepare: @escaping (_ token: Int) -> Void
  ) throws(PassFailure) {
    guard let experts else {
      try mlp!.project(input, workspace: workspace, compute: compute, preparing: prepare)
      try mlp!.finish(workspace: workspace, compute: compute, into: result)
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
    let down = try experts.downProducts(workspace: workspace, compute: compute)
    if let mlp {
      let shared = workspace.experts!.shared
      try mlp.finish(beside: down, workspace: workspace, compute: compute, into: shared)
    } else {
      compute.kernels.multiply(down, pool: compute.pool)
    }
    experts.sum(
      workspace: workspace, compute: compute, adding: mlp != nil, into: result)
  }
}
