import TensorCore

/// The feed-forward layer: gated (SwiGLU), down(silu(gate x) · up x), or without a gate, down(gelu(up x)).
struct MLP: Sendable {
  /// Gate and up as checkpoints hold them.
  enum Input: Sendable {
    /// Up without a gate.
    case plain(Linear)
    case separate(gate: Linear, up: Linear)
    /// One matrix: the rows of gate, then those of up.
    case fused(Linear)
  }

  let input: Input
  let down: Linear
  let intermediateSize: Int

  /// Gate and up projections of the input, which stay in the workspace.
  ///
  /// - Parameters:
  ///   - others: products that are computed along with these.
  ///   - prepare: computes a row of the input.
  /// - Throws: ``PassFailure``.
  func project(
    _ input: Rows, beside others: [Kernels.Product] = [], workspace: Workspace, compute: Compute,
    preparing prepare: ((_ token: Int) -> Void)? = nil
  ) throws(PassFailure) {
    let gate = workspace.gateUp
    let layers: [(Linear, Rows)] =
      switch self.input {
      case .plain(let layer), .fused(let layer): [(layer, gate)]
      case .separate(let gateLayer, let upLayer):
        [(gateLayer, gate), (upLayer, up(of: workspace)!)]
      }
    try compute.apply(
      layers, to: input, .mlp, activations: workspace.activations, beside: others,
      preparing: prepare)
  }

  /// The down projection of what ``project(_:beside:workspace:compute:preparing:)`` left.
  ///
  /// - Parameter others: products that are computed along with this one.
  /// - Throws: ``PassFailure``.
  func finish(
    beside others: [Kernels.Product] = [], workspace: Workspace, compute: Compute,
    into result: Rows
  ) throws(PassFailure) {
    let (gate, up) = (workspace.gateUp, up(of: workspace))
    try compute.apply(
      [(down, result)], to: gate, .down, activations: workspace.activations, beside: others
    ) { token in
      let row = gate[token]
      if let up {
        compute.kernels.gatedSilu(
          gate: row, up: up[token], count: intermediateSize, output: row)
      } else {
        compute.kernels.gelu(row, count: intermediateSize, output: row)
      }
    }
  }

  /// Where the up projections are beside those of the gate; nil without a gate.
  private func up(of workspace: Workspace) -> Rows? {
    let gate = workspace.gateUp
    return switch input {
    case .plain: nil
    case .separate: Rows(gate.pointer + padded(intermediateSize), stride: gate.stride)
    case .fused: Rows(gate.pointer + intermediateSize, stride: gate.stride)
    }
  }
}
