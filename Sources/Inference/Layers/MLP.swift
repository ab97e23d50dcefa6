import TensorCore

/// The gated feed-forward layer (SwiGLU): down(silu(gate x) · up x).
struct MLP: Sendable {
  /// Gate and up as checkpoints hold them.
  enum Input: Sendable {
    case separate(gate: Linear, up: Linear)
    /// One matrix: the rows of gate, then those of up.
    case fused(Linear)
  }

  let input: Input
  let down: Linear
  let intermediateSize: Int

  /// - Throws: ``PassFailure``.
  func apply(
    to input: Rows, workspace: Workspace, compute: Compute, into result: Rows
  ) throws(PassFailure) {
    let gate = workspace.gateUp
    let up: Rows
    switch self.input {
    case .separate(let gateLayer, let upLayer):
      up = Rows(gate.pointer + padded(intermediateSize), stride: gate.stride)
      try compute.apply(
        [(gateLayer, gate), (upLayer, up)], to: input, .mlp, activations: workspace.activations)
    case .fused(let layer):
      up = Rows(gate.pointer + intermediateSize, stride: gate.stride)
      try compute.apply([(layer, gate)], to: input, .mlp, activations: workspace.activations)
    }
    compute.pool.parallelFor(compute.tokenCount) { token in
      compute.kernels.gatedSilu(
        gate: gate[token], up: up[token], count: intermediateSize, output: gate[token])
    }
    try compute.apply([(down, result)], to: gate, .down, activations: workspace.activations)
  }
}
