import TensorCore

/// A mixture of experts: a router sends each token to a few of many small MLPs, whose results are
/// summed up by weight (Shazeer et al., "Outrageously large neural networks", 2017; the softmax is over
/// the chosen experts only).
struct Experts: Sendable {
  let router: WeightMatrix
  /// Of each expert the rows of gate, then those of up.
  let gateUp: [WeightMatrix]
  let down: [WeightMatrix]
  /// Experts that a token is sent to.
  let usedCount: Int
  let intermediateSize: Int

  /// The product that gives the router's logits.
  ///
  /// - Parameters:
  ///   - isObserved: whether the router is the one that shows the input to the observer.
  ///   - prepare: computes a row of the input.
  /// - Throws: ``PassFailure``.
  func routerProduct(
    _ input: Rows, isObserved: Bool, workspace: Workspace, compute: Compute,
    preparing prepare: ((_ token: Int) -> Void)? = nil
  ) throws(PassFailure) -> Kernels.Product {
    let scratch = workspace.experts!
    try compute.load(
      input, isObserved ? .mlp : nil, for: router, into: scratch.routed, preparing: prepare)
    return .init(
      router, scratch.routed, output: scratch.logits.pointer, outputStride: scratch.logits.stride)
  }

  /// Sends every token to the experts that the router's logits choose; their gate and up projections
  /// stay in the workspace.
  ///
  /// - Throws: ``PassFailure``.
  func project(_ input: Rows, workspace: Workspace, compute: Compute) throws(PassFailure) {
    let scratch = workspace.experts!
    scratch.routing.route(
      scratch.logits, tokenCount: compute.tokenCount, count: gateUp.count, used: usedCount,
      pool: compute.pool)
    let products = try products(
      gateUp, input, source: scratch.routing.tokens, .experts, scratch, compute, scratch.gateUp)
    compute.kernels.multiply(products, pool: compute.pool)
  }

  /// The products of the down projections, whose results ``sum(workspace:compute:adding:into:)``
  /// takes.
  ///
  /// - Throws: ``PassFailure``.
  func downProducts(
    workspace: Workspace, compute: Compute
  ) throws(PassFailure) -> [Kernels.Product] {
    let scratch = workspace.experts!
    let gate = scratch.gateUp
    let up = Rows(gate.pointer + intermediateSize, stride: gate.stride)
    return try products(down, gate, source: nil, .expertDown, scratch, compute, scratch.output) {
      compute.kernels.gatedSilu(
        gate: gate[$0], up: up[$0], count: intermediateSize, output: gate[$0])
    }
  }

  /// Products of every touched expert's matrix with its rows.
  ///
  /// - Parameters:
  ///   - source: for every row that of `input`; nil for the same.
  ///   - prepare: computes a row of the input.
  private func products(
    _ matrices: [WeightMatrix], _ input: Rows, source: [Int]?, _ kind: LinearInput,
    _ scratch: ExpertWorkspace, _ compute: Compute, _ output: Rows,
    preparing prepare: ((_ row: Int) -> Void)? = nil
  ) throws(PassFailure) -> [Kernels.Product] {
    let (routing, activations) = (scratch.routing, scratch.activations)
    var prepare = prepare
    if let observer = compute.observer {
      if let prepare { compute.pool.parallelFor(routing.tokens.count, prepare) }
      prepare = nil
      let columns = matrices[0].geometry.columns
      show(kind, input, source: source, scratch, columns: columns, to: observer)
    }
    // The experts of a single token read the same row: it is prepared once.
    let isShared = source != nil && compute.tokenCount == 1
    do throws(NonFiniteActivation) {
      try activations.load(
        input.pointer, source: source, batches: isShared ? [0..<1] : routing.batches,
        inputStride: input.stride,
        for: matrices[0], precision: compute.precision, kernels: compute.kernels,
        pool: compute.pool, preparing: prepare)
    } catch {
      throw PassFailure(row: routing.tokens[error.token], reason: .activation)
    }
    return zip(routing.experts, routing.batches).map { expert, rows in
      isShared
        ? .init(
          matrices[expert], activations, output: output[rows.lowerBound],
          outputStride: output.stride)
        : .init(
          matrices[expert], activations, batch: rows, output: output.pointer,
          outputStride: output.stride)
    }
  }

  /// Shows the observer the rows of each expert, gathered where its results will be.
  private func show(
    _ kind: LinearInput, _ input: Rows, source: [Int]?, _ scratch: ExpertWorkspace, columns: Int,
    to observer: (ObservedInput) -> Void
  ) {
    var rows = input
    if let source {
      rows = scratch.output
      for (row, token) in source.enumerated() {
        rows[row].update(from: input[token], count: columns)
      }
    }
    for (expert, batch) in zip(scratch.routing.experts, scratch.routing.batches) {
      observer(
        ObservedInput(
          kind: kind, expert: expert, rows: rows[batch.lowerBound], stride: rows.stride,
          tokenCount: batch.count, columns: columns))
    }
  }

  /// `result[t]` = the sum of what the token's experts made of it, by weight, experts ascending.
  ///
  /// - Parameter isBesideMLP: whether what the MLP beside them made of it is added.
  func sum(workspace: Workspace, compute: Compute, adding isBesideMLP: Bool, into result: Rows) {
    let scratch = workspace.experts!
    let (output, routing, shared) = (scratch.output, scratch.routing, scratch.shared)
    let count = padded(down[0].geometry.rows)
    compute.pool.parallelFor(compute.tokenCount) { token in
      let first = token * usedCount
      withUnsafeTemporaryAllocation(of: UnsafePointer<Float>?.self, capacity: usedCount) { rows in
        for rank in 0..<usedCount {
          rows.initializeElement(at: rank, to: UnsafePointer(output[routing.rows[first + rank]]))
        }
        routing.weights.withUnsafeBufferPointer { weights in
          compute.kernels.mix(
            UnsafeBufferPointer(rows), weights: weights.baseAddress! + first, count: count,
            output: result[token])
        }
      }
      if isBesideMLP { compute.add(shared[token], times: 1, to: result[token], count: count) }
    }
  }
}
