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

  /// Adds the features of the input: silu(gate x) · up x, or gelu(up x). They stay in the workspace.
  ///
  /// - Parameters:
  ///   - others: products that are computed along with gate and up.
  ///   - prepare: computes a row of the input.
  /// - Throws: ``PassFailure`` of earlier steps.
  func addFeatures(
    to steps: inout Steps, of input: Rows, beside others: [Kernels.ProductGroup] = [],
    workspace: Workspace, preparing prepare: ((_ token: Int) -> Void)? = nil
  ) throws(PassFailure) {
    let compute = steps.compute
    let activations = workspace.activations
    let (gate, up, tokens) = (workspace.gateUp, up(of: workspace), 0..<compute.tokenCount)
    let features = workspace.features.begin(
      tokenCount: tokens.count, for: down.weight, precision: compute.precision,
      kernels: compute.kernels)
    let activate: RowFinish = { token, rows in
      compute.activate(gate[token], by: up?[token], rows: rows)
      features.enter(gate[token], columns: rows, token: token, of: tokens)
    }
    defer { steps.check(features) }
    guard let parts = partsWithCommonRows(gate: gate, up: up) else {
      try steps.add(
        layers(gate: gate, up: up), of: input, .mlp, activations: activations,
        preparing: prepare)
      if !others.isEmpty { steps.add(others) }
      let columns = 0..<intermediateSize
      steps.add(LoopStage(count: tokens.count) { activate($0, columns) })
      return
    }
    try steps.load(
      input, .mlp, for: parts[0].linear.weight, into: activations, preparing: prepare)
    let products = parts.map { part in
      Kernels.Product(
        part.linear.weight, activations, panels: part.panels, output: part.output.pointer,
        outputStride: part.output.stride)
    }
    let biases = parts.map { (bias: $0.linear.bias, output: $0.output) }
    let group = Kernels.ProductGroup(
      products[0], Array(products.dropFirst()), rowMultiple: down.weight.encoding.blockSize ?? 16
    ) { rows, _ in
      for token in tokens {
        for (bias, output) in biases { compute.add(bias, to: output[token], rows: rows) }
        activate(token, rows)
      }
    }
    steps.add(others + [group])
  }

  /// Adds `result[t]` = the down projection of the features.
  ///
  /// - Parameter finish: what is done with results.
  /// - Throws: ``PassFailure`` of earlier steps.
  func addResult(
    to steps: inout Steps, workspace: Workspace, into result: Rows,
    finishing finish: @escaping RowFinish
  ) throws(PassFailure) {
    try steps.show(workspace.gateUp, .down, columns: down.weight.geometry.columns)
    steps.add([
      steps.compute.product(down, workspace.features, into: result, finishing: finish)
    ])
  }

  /// The product of the down projection with the features, as yet without its bias.
  ///
  /// - Throws: ``PassFailure`` of earlier steps.
  func downProduct(
    _ steps: inout Steps, workspace: Workspace, into result: Rows
  ) throws(PassFailure) -> Kernels.Product {
    try steps.show(workspace.gateUp, .down, columns: down.weight.geometry.columns)
    return Kernels.Product(
      down.weight, workspace.features, output: result.pointer, outputStride: result.stride)
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

  private func layers(gate: Rows, up: Rows?) -> [(linear: Linear, output: Rows)] {
    switch input {
    case .plain(let layer), .fused(let layer): [(layer, gate)]
    case .separate(let gateLayer, let upLayer): [(gateLayer, gate), (upLayer, up!)]
    }
  }

  /// Products that have the same feature at the same row; nil where panels hold rows of both gate
  /// and up, or the two do not take the same activations.
  private func partsWithCommonRows(
    gate: Rows, up: Rows?
  ) -> [(linear: Linear, panels: Range<Int>?, output: Rows)]? {
    switch input {
    case .plain(let layer): return [(layer, nil, gate)]
    case .separate(let gateLayer, let upLayer):
      guard gateLayer.weight.takesSameActivations(as: upLayer.weight) else { return nil }
      return [(gateLayer, nil, gate), (upLayer, nil, up!)]
    case .fused(let layer):
      guard intermediateSize % 16 == 0, layer.bias == nil else { return nil }
      let count = intermediateSize / 16
      return [(layer, 0..<count, gate), (layer, count..<2 * count, gate)]
    }
  }
}
