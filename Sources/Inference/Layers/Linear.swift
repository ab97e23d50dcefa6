import TensorCore

/// A linear layer, y = W x + b.
struct Linear: Sendable {
  let weight: WeightMatrix
  /// Output features, or nil for none.
  let bias: [Float]?
}

/// What the linear layers of a decoder read; those that read the same have it in common.
public enum LinearInput: String, Sendable, CaseIterable {
  /// Of query, key and value: the normalized residual stream.
  case attention
  /// Of the attention's output projection: the heads' results.
  case attentionOutput
  /// Of gate and up, and of the router: the normalized residual stream.
  case mlp
  /// Of down: the gated features.
  case down
  /// Of a Mamba2 layer's input projection: the normalized residual stream.
  case mamba
  /// Of a Mamba2 layer's output projection: the gated and normalized heads.
  case mambaOutput
  /// Of an expert's gate and up: what ``mlp`` is, of the tokens that it is sent.
  case experts
  /// Of an expert's down: the gated features.
  case expertDown
  /// Of the output projection: the residual stream after the final norm.
  case output
}

/// Root mean square norm with a weight for each feature; with a bias for each, layer norm.
struct Norm: Sendable {
  let weight: AlignedBuffer
  let bias: AlignedBuffer?
  let count: Int
  let epsilon: Float

  init(weight values: [Float], bias: [Float]?, epsilon: Float) {
    weight = AlignedBuffer(values)
    self.bias = bias.map { AlignedBuffer($0) }
    count = values.count
    self.epsilon = epsilon
  }
}

extension AlignedBuffer {
  /// A copy of some values.
  convenience init(_ values: [Float]) {
    self.init(byteCount: values.count * 4)
    floats.update(from: values, count: values.count)
  }
}

/// What computes, and how precisely: shared by all layers of a pass.
struct Compute {
  let kernels: Kernels
  let pool: WorkerPool
  let precision: ActivationPrecision
  let tokenCount: Int
  /// Called with every input of linear layers before it is used.
  var observer: ((ObservedInput) -> Void)?

  /// `output[t] = norm(input[t])` for every token.
  func apply(_ norm: Norm, to input: Rows, into output: Rows) {
    pool.parallelFor(tokenCount) { apply(norm, to: input[$0], into: output[$0]) }
  }

  /// The same for one row.
  func apply(
    _ norm: Norm, to input: UnsafePointer<Float>, into output: UnsafeMutablePointer<Float>
  ) {
    let (weight, count) = (norm.weight.floats, norm.count)
    if let bias = norm.bias?.floats {
      kernels.layerNorm(
        input, weight: weight, bias: bias, count: count, epsilon: norm.epsilon, output: output)
    } else {
      kernels.rmsNorm(
        input, weight: weight, count: count, epsilon: norm.epsilon, output: output)
    }
  }

  /// Prepares an input for products with `weight` and every other matrix that takes the same
  /// activations.
  ///
  /// - Parameters:
  ///   - kind: what the input is, for the observer; nil where that sees it elsewhere.
  ///   - prepare: computes a row of the input, for which it is called once.
  /// - Throws: ``PassFailure``.
  func load(
    _ input: Rows, _ kind: LinearInput?, for weight: WeightMatrix, into activations: Activations,
    preparing prepare: ((_ token: Int) -> Void)? = nil
  ) throws(PassFailure) {
    var prepare = prepare
    if let observer, let kind {
      if let prepare { pool.parallelFor(tokenCount, prepare) }
      prepare = nil
      observer(
        ObservedInput(
          kind: kind, expert: nil, rows: input.pointer, stride: input.stride,
          tokenCount: tokenCount, columns: weight.geometry.columns))
    }
    do throws(NonFiniteActivation) {
      try activations.load(
        input.pointer, tokenCount: tokenCount, inputStride: input.stride, for: weight,
        precision: precision, kernels: kernels, pool: pool, preparing: prepare)
    } catch {
      throw PassFailure(row: error.token, reason: .activation)
    }
  }

  /// Products of several layers that read one input: `output[t]` receives `paddedRows` values,
  /// biases included.
  ///
  /// - Parameters:
  ///   - kind: as for ``load(_:_:for:into:preparing:)``.
  ///   - activations: scratch. Loaded once where block size and column scales agree, as they do in
  ///     slabs that Quarry writes.
  ///   - others: products that are computed along with these; their activations are others.
  ///   - prepare: computes a row of the input, for which it is called once.
  /// - Throws: ``PassFailure``.
  func apply(
    _ layers: [(linear: Linear, output: Rows)], to input: Rows, _ kind: LinearInput?,
    activations: Activations, beside others: [Kernels.Product] = [],
    preparing prepare: ((_ token: Int) -> Void)? = nil
  ) throws(PassFailure) {
    var (kind, prepare, products) = (kind, prepare, others)
    var rest = layers[...]
    while let first = rest.first?.linear.weight {
      let same = rest.prefix { $0.linear.weight.takesSameActivations(as: first) }
      rest = rest.dropFirst(same.count)
      try load(input, kind, for: first, into: activations, preparing: prepare)
      products += same.map {
        .init(
          $0.linear.weight, activations, output: $0.output.pointer,
          outputStride: $0.output.stride)
      }
      kernels.multiply(products, pool: pool)
      (kind, prepare, products) = (nil, nil, [])
    }
    for (linear, output) in layers {
      guard let bias = linear.bias else { continue }
      for token in 0..<tokenCount {
        let row = output[token]
        for feature in bias.indices { row[feature] += bias[feature] }
      }
    }
  }

  /// `output[t] += input[t] · multiplier` for every token.
  func add(_ input: Rows, times multiplier: Float, to output: Rows, count: Int) {
    pool.parallelFor(tokenCount) {
      add(input[$0], times: multiplier, to: output[$0], count: count)
    }
  }

  /// The same for one row.
  func add(
    _ input: UnsafePointer<Float>, times multiplier: Float,
    to output: UnsafeMutablePointer<Float>, count: Int
  ) {
    for feature in 0..<count { output[feature] += input[feature] * multiplier }
  }
}

extension WeightMatrix {
  /// Whether activations loaded for this matrix serve `other` too.
  fileprivate func takesSameActivations(as other: WeightMatrix) -> Bool {
    encoding.blockSize == other.encoding.blockSize && columnScales === other.columnScales
      && geometry.columns == other.geometry.columns
  }
}
