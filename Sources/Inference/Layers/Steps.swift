import TensorCore

/// Steps of a pass on their way into one parallel loop, which takes them one after the other: between two of
/// them threads wait for each other, but nobody has to call them up again.
struct Steps {
  let compute: Compute
  private var stages: [LoopStage] = []
  /// What may have gone wrong in them, in their order.
  private var checks: [() throws(PassFailure) -> Void] = []

  init(_ compute: Compute) { self.compute = compute }

  /// Computes all steps; they may be computed again if nothing is thrown.
  ///
  /// - Throws: ``PassFailure``, the first that there is; later steps then computed something or other.
  func run() throws(PassFailure) {
    compute.pool.run(stages)
    for check in checks { try check() }
  }

  /// Computes the steps so far, for others depend on what they give; begins with none again.
  ///
  /// - Throws: ``PassFailure``.
  mutating func runNow() throws(PassFailure) {
    try run()
    self = Steps(compute)
  }

  /// Adds the steps of a layer.
  mutating func add(_ steps: Steps, layer: Int) {
    stages += steps.stages
    let checks = steps.checks
    check { () throws(PassFailure) in
      do throws(PassFailure) {
        for check in checks { try check() }
      } catch {
        throw error.inLayer(layer)
      }
    }
  }

  mutating func add(_ stage: LoopStage) { stages.append(stage) }

  mutating func add(_ stages: [LoopStage]) { self.stages += stages }

  mutating func add(_ groups: [Kernels.ProductGroup]) {
    stages.append(compute.kernels.stage(groups, threadCount: compute.pool.threadCount))
  }

  /// Adds what ends a pass if something went wrong in the steps before.
  mutating func check(_ check: @escaping () throws(PassFailure) -> Void) { checks.append(check) }

  /// Adds the end of an entry of activations in the steps before; `token` tells whose a row of them is.
  mutating func check(
    _ entry: ActivationEntry, token: @escaping (_ row: Int) -> Int = { $0 }
  ) {
    check { () throws(PassFailure) in
      do throws(NonFiniteActivation) {
        try entry.finish()
      } catch {
        throw PassFailure(row: token(error.token), reason: .activation)
      }
    }
  }

  /// Shows the observer, if there is one, an input of all tokens, which the steps before compute.
  ///
  /// - Throws: ``PassFailure`` of them.
  mutating func show(_ input: Rows, _ kind: LinearInput, columns: Int) throws(PassFailure) {
    guard let observer = compute.observer else { return }
    try runNow()
    observer(
      ObservedInput(
        kind: kind, expert: nil, rows: input.pointer, stride: input.stride,
        tokenCount: compute.tokenCount, columns: columns))
  }

  /// Adds the preparation of an input for products with `weight` and every other matrix that takes
  /// the same activations.
  ///
  /// - Parameters:
  ///   - kind: what the input is, for the observer; nil where that sees it elsewhere.
  ///   - prepare: computes a row of the input, for which it is called once.
  /// - Throws: ``PassFailure`` of earlier steps.
  mutating func load(
    _ input: Rows, _ kind: LinearInput?, for weight: WeightMatrix, into activations: Activations,
    preparing prepare: ((_ token: Int) -> Void)? = nil
  ) throws(PassFailure) {
    var prepare = prepare
    if compute.observer != nil, let kind {
      if let prepare { add(LoopStage(count: compute.tokenCount, prepare)) }
      prepare = nil
      try show(input, kind, columns: weight.geometry.columns)
    }
    let (loading, entry) = activations.loading(
      input.pointer, batches: [0..<compute.tokenCount], inputStride: input.stride, for: weight,
      precision: compute.precision, kernels: compute.kernels,
      threadCount: compute.pool.threadCount, preparing: prepare)
    stages += loading
    check(entry)
  }

  /// Adds the products of several layers that read one input: `output[t]` receives `paddedRows` values,
  /// biases included.
  ///
  /// - Parameters:
  ///   - kind: as for ``load(_:_:for:into:preparing:)``.
  ///   - activations: scratch. Loaded once where block size and column scales agree, as they do in
  ///     slabs that Quarry writes.
  ///   - prepare: computes a row of the input, for which it is called once.
  ///   - finish: what is done with results, as for ``Compute/product(_:_:into:finishing:)``.
  /// - Throws: ``PassFailure`` of earlier steps.
  mutating func add(
    _ layers: [(linear: Linear, output: Rows)], of input: Rows, _ kind: LinearInput?,
    activations: Activations, preparing prepare: ((_ token: Int) -> Void)? = nil,
    finishing finish: RowFinish? = nil
  ) throws(PassFailure) {
    var (kind, prepare) = (kind, prepare)
    var rest = layers[...]
    while let first = rest.first?.linear.weight {
      let same = rest.prefix { $0.linear.weight.takesSameActivations(as: first) }
      rest = rest.dropFirst(same.count)
      try load(input, kind, for: first, into: activations, preparing: prepare)
      add(
        same.map { compute.product($0.linear, activations, into: $0.output, finishing: finish) })
      (kind, prepare) = (nil, nil)
    }
  }
}
