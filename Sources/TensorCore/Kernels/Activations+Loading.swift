extension Activations {
  /// Prepares `tokenCount` rows of `input` for products with `weights` and every other matrix of
  /// the same width, block size and column scales.
  ///
  /// - Parameters:
  ///   - input: row t begins at `t · inputStride` and has `geometry.columns` values.
  ///   - precision: what quantized matrices take; unquantized ones always take float32.
  ///   - prepare: called once with every row before it is read; of many tokens by the thread that
  ///     reads it, in whose cache it then is.
  /// - Throws: ``NonFiniteActivation``.
  public func load(
    _ input: UnsafePointer<Float>, tokenCount: Int, inputStride: Int, for weights: WeightMatrix,
    precision: ActivationPrecision, kernels: Kernels, pool: WorkerPool,
    preparing prepare: ((_ row: Int) -> Void)? = nil
  ) throws(NonFiniteActivation) {
    try load(
      input, source: nil, batches: [0..<tokenCount], inputStride: inputStride,
      for: weights, precision: precision, kernels: kernels, pool: pool, preparing: prepare)
  }

  /// Prepares several batches, each for products with a matrix of its own, as those of the tokens of
  /// each expert; all matrices have one shape, block size and column scales.
  ///
  /// - Parameters:
  ///   - source: for every row of the batches the row of `input`; nil for the same.
  ///   - batches: their rows, consecutive from 0, none of them empty.
  ///   - prepare: as above.
  /// - Precondition: no `source` where rows are prepared.
  /// - Throws: ``NonFiniteActivation``; its token is a row of the batches.
  public func load(
    _ input: UnsafePointer<Float>, source: [Int]?, batches: [Range<Int>], inputStride: Int,
    for weights: WeightMatrix, precision: ActivationPrecision, kernels: Kernels, pool: WorkerPool,
    preparing prepare: ((_ row: Int) -> Void)? = nil
  ) throws(NonFiniteActivation) {
    let (stages, entry) = loading(
      input, source: source, batches: batches, inputStride: inputStride, for: weights,
      precision: precision, kernels: kernels, threadCount: pool.threadCount, preparing: prepare)
    pool.run(stages)
    try entry.finish()
  }

  /// What ``load(_:source:batches:inputStride:for:precision:kernels:pool:preparing:)`` does, as stages of a
  /// loop of `threadCount` threads; after the loop the entry is to be finished. Later stages may
  /// compute products with the batch, and still later ones load the next.
  public func loading(
    _ input: UnsafePointer<Float>, source: [Int]? = nil, batches: [Range<Int>], inputStride: Int,
    for weights: WeightMatrix, precision: ActivationPrecision, kernels: Kernels, threadCount: Int,
    preparing prepare: ((_ row: Int) -> Void)? = nil
  ) -> (stages: [LoopStage], entry: ActivationEntry) {
    precondition(source == nil || prepare == nil)
    let tokenCount = batches.last?.upperBound ?? 0
    let entry = begin(
      tokenCount: tokenCount, for: weights, precision: precision, kernels: kernels)
    let columns = weights.geometry.paddedColumns
    if batches.count == 1, tokenCount > 1, kernels.streamsWeights(tokenCount: tokenCount) {
      // All tokens are one group, whose codes share lines of the cache: a thread takes some columns.
      let stage = LoopStage(
        ranges: columns / 32, minimum: (1 << 12) / (32 * tokenCount), threadCount: threadCount
      ) { blocks in
        for token in 0..<tokenCount {
          entry.enter(
            input + (source?[token] ?? token) * inputStride,
            columns: blocks.lowerBound * 32..<blocks.upperBound * 32, token: token,
            of: 0..<tokenCount)
        }
      }
      return ((prepare.map { [LoopStage(count: tokenCount, $0)] } ?? []) + [stage], entry)
    }
    // Some thousands of columns are worth waking a thread for; fewer where they are computed too.
    let worthwhile = prepare == nil ? 1 << 14 : 1 << 12
    let stage = LoopStage(
      ranges: tokenCount, minimum: max(1, worthwhile / columns), threadCount: threadCount
    ) { tokens in
      var place = 0
      for token in tokens {
        prepare?(token)
        while batches[place].upperBound <= token { place += 1 }
        entry.enter(
          input + (source?[token] ?? token) * inputStride, token: token, of: batches[place])
      }
    }
    return ([stage], entry)
  }
}
