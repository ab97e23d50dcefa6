import TensorCore

/// A mixture of experts: a router sends each token to a few of many small MLPs, whose results are
/// summed up by weight (Shazeer et al., "Outrageously large neural networks", 2017; the softmax is over
/// the chosen experts only).
struct Experts: Sendable {
  let router: WeightMatrix
  /// Of each expert the rows of gate, then those of up.
  let gateUp: MatrixList
  let down: MatrixList
  /// Experts that a token is sent to.
  let usedCount: Int
  let intermediateSize: Int

  /// The product that gives the router's logits, after the preparation of its input.
  ///
  /// - Parameters:
  ///   - isObserved: whether the router is the one that shows the input to the observer.
  ///   - prepare: computes a row of the input.
  /// - Throws: ``PassFailure`` of earlier steps.
  func routerProduct(
    _ steps: inout Steps, _ input: Rows, isObserved: Bool, workspace: Workspace,
    preparing prepare: ((_ token: Int) -> Void)? = nil
  ) throws(PassFailure) -> Kernels.ProductGroup {
    let scratch = workspace.experts!
    try steps.load(
      input, isObserved ? .mlp : nil, for: router, into: scratch.routed, preparing: prepare)
    return steps.compute.product(
      Linear(weight: router, bias: nil), scratch.routed, into: scratch.logits)
  }

  /// The rows of each expert that has tokens, in the order of ``Routing``.
  struct Choice {
    let batches: [Range<Int>]
    /// The token of each row.
    let tokens: [Int]
    /// Nil where they are known only when products are computed.
    let experts: [Int]?
  }

  /// Adds the choice of every token's experts by the router's logits. A single token goes to as many
  /// experts as ever, whichever they are; with more tokens one must know, so what is there of steps is
  /// computed at once.
  private func addRouting(
    to steps: inout Steps, _ scratch: ExpertWorkspace
  ) throws(PassFailure) -> Choice {
    let (compute, routing) = (steps.compute, scratch.routing)
    let route = {
      routing.route(
        scratch.logits, tokenCount: compute.tokenCount, count: gateUp.count, used: usedCount,
        pool: compute.pool)
    }
    guard compute.tokenCount == 1, compute.observer == nil else {
      try steps.runNow()
      route()
      return Choice(batches: routing.batches, tokens: routing.tokens, experts: routing.experts)
    }
    steps.add(
      LoopStage(count: 1) { _ in
        route()
        for (place, expert) in routing.experts.enumerated() { scratch.choice[place] = expert }
      })
    return Choice(
      batches: (0..<usedCount).map { $0..<$0 + 1 },
      tokens: Array(repeating: 0, count: usedCount), experts: nil)
  }

  /// Sends every token to experts, and adds the features that these have of it, silu(gate x) · up x. They
  /// stay in the workspace.
  ///
  /// - Throws: ``PassFailure`` of earlier steps.
  func addFeatures(
    to steps: inout Steps, of input: Rows, workspace: Workspace
  ) throws(PassFailure) -> Choice {
    let (compute, scratch) = (steps.compute, workspace.experts!)
    let choice = try addRouting(to: &steps, scratch)
    let (batches, tokens, kernels) = (choice.batches, choice.tokens, compute.kernels)
    show(.experts, input, source: tokens, scratch, compute, columns: gateUp.geometry.columns)
    // The experts of a single token read the same row: it is prepared once.
    let isShared = compute.tokenCount == 1
    let (loading, entry) = scratch.activations.loading(
      input.pointer, source: tokens, batches: isShared ? [0..<1] : batches,
      inputStride: input.stride, for: gateUp[0], precision: compute.precision, kernels: kernels,
      threadCount: compute.pool.threadCount)
    steps.add(loading)
    steps.check(entry) { tokens[$0] }
    let features = scratch.features.begin(
      tokenCount: tokens.count, for: down[0], precision: compute.precision, kernels: kernels)
    defer { steps.check(features) { tokens[$0] } }
    let (gate, size) = (scratch.gateUp, intermediateSize)
    let activate = { (row: Int, batch: Range<Int>, columns: Range<Int>) in
      compute.activate(gate[row], by: gate[row] + size, rows: columns)
      features.enter(gate[row], columns: columns, token: row, of: batch)
    }
    func product(_ place: Int, panels: Range<Int>? = nil) -> Kernels.Product {
      let batch = batches[place]
      return self.product(
        gateUp, choice, place, scratch, scratch.activations, batch: isShared ? nil : batch,
        panels: panels, output: isShared ? gate[batch.lowerBound] : gate.pointer,
        outputStride: gate.stride)
    }
    // The thread that has computed gate and up goes on, unless some panel holds rows of both. Of a
    // single token they are so few that threads had better go on reading weights.
    guard size % 16 == 0, compute.tokenCount > 1 else {
      steps.add(batches.indices.map { .init(product($0)) })
      steps.add(
        LoopStage(count: batches.count) { place in
          for row in batches[place] { activate(row, batches[place], 0..<size) }
        })
      return choice
    }
    let panelCount = size / 16
    let finish = { (rows: Range<Int>, expert: Int) in
      for row in batches[expert] { activate(row, batches[expert], rows) }
    }
    steps.add(
      batches.indices.map { place in
        Kernels.ProductGroup(
          product(place, panels: 0..<panelCount),
          [product(place, panels: panelCount..<2 * panelCount)],
          rowMultiple: down.encoding.blockSize ?? 16, finish: finish)
      })
    return choice
  }

  /// A product with the matrix of a chosen expert.
  private func product(
    _ matrices: MatrixList, _ choice: Choice, _ place: Int, _ scratch: ExpertWorkspace,
    _ activations: Activations, batch: Range<Int>?, panels: Range<Int>? = nil,
    output: UnsafeMutablePointer<Float>, outputStride: Int
  ) -> Kernels.Product {
    if let experts = choice.experts {
      Kernels.Product(
        matrices, at: experts[place], activations, batch: batch, panels: panels, output: output,
        outputStride: outputStride)
    } else {
      Kernels.Product(
        matrices, chosen: scratch.choice + place, activations, batch: batch, panels: panels,
        output: output, outputStride: outputStride)
    }
  }

  /// Adds `result[t]` = the sum of what the token's experts make of their features, by weight, experts
  /// ascending.
  ///
  /// - Parameters:
  ///   - choice: of the features.
  ///   - mlp: what is beside them; what it makes of its features is added.
  ///   - finish: what is done with results.
  /// - Throws: ``PassFailure`` of earlier steps.
  func addResult(
    to steps: inout Steps, of choice: Choice, beside mlp: MLP?, workspace: Workspace,
    into result: Rows, finishing finish: @escaping RowFinish
  ) throws(PassFailure) {
    let (compute, scratch) = (steps.compute, workspace.experts!)
    let (routing, output, shared) = (scratch.routing, scratch.output, scratch.shared)
    let kernels = compute.kernels
    if compute.observer != nil {
      try steps.runNow()
      show(.expertDown, scratch.gateUp, source: nil, scratch, compute, columns: intermediateSize)
    }
    var products = choice.batches.enumerated().map { place, rows in
      product(
        down, choice, place, scratch, scratch.features, batch: rows, output: output.pointer,
        outputStride: output.stride)
    }
    if let mlp {
      products.append(
        try mlp.downProduct(&steps, workspace: workspace, into: shared))
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
      steps.add([group])
    } else {
      steps.add(products.map { .init($0) })
      let rows = 0..<down.geometry.paddedRows
      steps.add(LoopStage(count: compute.tokenCount) { sum($0, rows) })
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
