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

  /// - Parameter prepare: computes a row of the input.
  /// - Throws: ``PassFailure``.
  func apply(
    to input: Rows, workspace: Workspace, compute: Compute, into result: Rows,
    preparing prepare: ((_ token: Int) -> Void)? = nil
  ) throws(PassFailure) {
    let gate = workspace.gateUp
    let up: Rows?
    switch self.input {
    case .plain(let layer):
      up = nil
      try compute.apply(
        [(layer, gate)], to: input, .mlp, activations: workspace.activations, preparing: prepare)
    case .separate(let gateLayer, let upLayer):
      let rows = Rows(gate.pointer + padded(intermediateSize), stride: gate.stride)
      up = rows
      try compute.apply(
        [(gateLayer, gate), (upLayer, rows)], to: input, .mlp, activations: workspace.activations,
        preparing: prepare)
    case .fused(let layer):
      up = Rows(gate.pointer + intermediateSize, stride: gate.stride)
      try compute.apply(
        [(layer, gate)], to: input, .mlp, activations: workspace.activations, preparing: prepare)
    }
    try compute.apply(
      [(down, result)], to: gate, .down, activations: workspace.activations
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
}
