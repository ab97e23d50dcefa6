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
  ) throws(PassFailure) -> Kernels.ProductGroup {
    let scratch = workspace.experts!
    try compute.load(
      input, isObserved ? .mlp : nil, for: router, into: scratch.routed, preparing: prepare)
    return compute.product(
      Linear(weight: router, bias: nil), scratch.routed, into: scratch.logits)
  }

  /// Sends every token to the experts that the router's logits choose; the features that these have
  /// of it, silu(gate x) · up x, stay in the workspace.
  ///
  /// - Throws: ``PassFailure``.
  func project(_ input: Rows, workspace: Workspace, compute: Compute) throws(PassFailure) {
    let scratch = workspace.experts!
    scratch.routing.route(
      scratch.logits, tokenCount: compute.tokenCount, count: gateUp.count, used: usedCount,
      pool: compute.pool)
    let (routing, kernels, features) = (scratch.routing, compute.kernels, scratch.features)
    show(
      .experts, input, source: routing.tokens, scratch, compute,
      columns: gateUp[0].geometry.columns)
    // The experts of a single token read the same row: it is prepared once.
    let isShared = compute.tokenCount == 1
    do throws(NonFiniteActivation) {
      try scratch.activations.load(
        input.pointer, source: routing.tokens, batches: isShared ? [0..<1] : routing.batches,
        inputStride: input.stride, for: gateUp[0], precision: compute.precision,
        kernels: kernels, pool: compute.pool)
    } catch {
      throw PassFailure(row: routing.tokens[error.token], reason: .activation)
    }
    features.begin(
      tokenCount: routing.tokens.count, for: down[0], precision: compute.precision,
      kernels: kernels)
    let gate = scratch.gateUp
    let activate = { (row: Int, batch: Range<Int>, columns: Range<Int>) in
      compute.activate(gate[row], by: gate[row] + intermediateSize, rows: columns)
      features.enter(
        gate[row], columns: columns, token: row, of: batch, for: down[0], kernels: kernels)
    }
    let batches = routing.batches
    func product(_ expert: Int, _ batch: Range<Int>, panels: Range<Int>? = nil) -> Kernels.Product {
      Kernels.Product(
        gateUp[expert], scratch.activations, batch: isShared ? nil : batch, panels: panels,
        output: isShared ? gate[batch.lowerBound] : gate.pointer, outputStride: gate.stride)
    }
    // The thread that has computed gate and up goes on, unless some panel holds rows of both. Of a
    // single token they are so few that threads had better go on reading weights.
    guard intermediateSize % 16 == 0, compute.tokenCount > 1 else {
      kernels.multiply(
        zip(routing.experts, batches).map { .init(product($0, $1)) }, pool: compute.pool)
      compute.pool.parallelRanges(batches.count, minimum: 16) { places in
        for batch in batches[places] {
          for row in batch { activate(row, batch, 0..<intermediateSize) }
        }
      }
      return
    }
    let panelCount = intermediateSize / 16
    let finish = { (rows: Range<Int>, expert: Int) in
      for row in batches[expert] { activate(row, batches[expert], rows) }
    }
    let groups = zip(routing.experts, batches).map { expert, batch in
      Kernels.ProductGroup(
        product(expert, batch, panels: 0..<panelCount),
        [product(expert, batch, panels: panelCount..<2 * panelCount)],
        rowMultiple: down[0].encoding.blockSize ?? 16, finish: finish)
    }
    kernels.multiply(groups, pool: compute.pool)
  }

  /// `result[t]` = the sum of what the token's experts make of their features, by weight, experts
  /// ascending.
  ///
  /// - Parameters:
  ///   - mlp: what is beside them; what it makes of its features is added.
  ///   - finish: what is done with results.
  /// - Throws: ``PassFailure``.
  func finish(
    beside mlp: MLP?, workspace: Workspace, compute: Compute, into result: Rows,
    finishing finish: @escaping RowFinish
  ) throws(PassFailure) {
    let (scratch, kernels) = (workspace.experts!, compute.kernels)
    let (routing, output, shared) = (scratch.routing, scratch.output, scratch.shared)
    do throws(NonFiniteActivation) {
      try scratch.features.finish()
    } catch {
      throw PassFailure(row: routing.tokens[error.token], reason: .activation)
    }
    show(
      .expertDown, scratch.gateUp, source: nil, scratch, compute, columns: intermediateSize)
    var products = zip(routing.experts, routing.batches).map { expert, rows in
      Kernels.Product(
        down[expert], scratch.features, batch: rows, output: output.pointer,
        outputStride: output.stride)
    }
    if let mlp {
      products.append(
        try mlp.downProduct(workspace: workspace, compute: compute, into: shared))
    }
    let sum: RowFinish = { token, rows in
      add(routing, token: token, output, rows: rows, into: result, kernels: kernels)
      if let mlp {
        compute.add(mlp.down.bias, to: shared[token], rows: rows)
        for row in rows { result[token][row] += shared[token][row] }
      }
      finish(token, rows)
    }
    // For a single token matrices had better be read one after another.
    if compute.tokenCount > 1, kernels.streamsWeights(tokenCount: compute.tokenCount) {
      let group = Kernels.ProductGroup(products[0], Array(products.dropFirst())) { rows, _ in
        for token in 0..<compute.tokenCount { sum(token, rows) }
      }
      kernels.multiply([group], pool: compute.pool)
    } else {
      kernels.multiply(products.map { .init($0) }, pool: compute.pool)
      let rows = 0..<padded(down[0].geometry.rows)
      compute.pool.parallelFor(compute.tokenCount) { sum($0, rows) }
    }
  }

  /// Some rows of a token's results in `output`, summed by weight.
  private func add(
    _ routing: Routing, token: Int, _ output: Rows, rows: Range<Int>, into result: Rows,
    kernels: Kernels
  ) {
    let places = token * usedCount..<(token + 1) * usedCount
    withUnsafeTemporaryAllocation(of: UnsafePointer<Float>?.self, capacity: usedCount) { terms in
      for (index, row) in routing.rows[places].enumerated() {
        terms.initializeElement(at: index, to: UnsafePointer(output[row] + rows.lowerBound))
      }
      routing.weights.withUnsafeBufferPointer { weights in
        kernels.mix(
          UnsafeBufferPointer(terms), weights: weights.baseAddress! + places.lowerBound,
          count: rows.count, output: result[token] + rows.lowerBound)
      }
    }
  }

  /// Shows the observer, if there is one, the rows of each expert, gathered where its results will be.
  ///
  /// - Parameter source: for every row that of `input`; nil for the same.
  private func show(
    _ kind: LinearInput, _ input: Rows, source: [Int]?, _ scratch: ExpertWorkspace,
    _ compute: Compute, columns: Int
  ) {
    guard let observer = compute.observer else { return }
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
}
