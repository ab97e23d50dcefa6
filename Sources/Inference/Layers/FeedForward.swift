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
      try mlp!.apply(
        to: input, workspace: workspace, compute: compute, into: result, preparing: prepare)
      return
    }
    try experts.apply(
      to: input, isObserved: mlp == nil, workspace: workspace, compute: compute, into: result,
      preparing: prepare)
    guard let mlp else { return }
    let shared = workspace.experts!.shared
    try mlp.apply(to: input, workspace: workspace, compute: compute, into: shared)
    compute.add(shared, times: 1, to: result, count: mlp.down.weight.geometry.rows)
  }
}
