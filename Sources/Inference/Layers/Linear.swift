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

  /// The product of a layer with a batch of activations, bias included.
  ///
  /// - Parameter finish: what is done with the results of a token.
  func product(
    _ linear: Linear, _ activations: Activations, into output: Rows,
    finishing finish: RowFinish? = nil
  ) -> Kernels.ProductGroup {
    let product = Kernels.Product(
      linear.weight, activations, output: output.pointer, outputStride: output.stride)
    let bias = linear.bias
    guard bias != nil || finish != nil else { return .init(product) }
    return .init(product) { rows, _ in
      for token in 0..<tokenCount {
        add(bias, to: output[token], rows: rows)
        finish?(token, rows)
      }
    }
  }

  /// Adds the bias of some rows, which may go beyond the last.
  func add(_ bias: [Float]?, to output: UnsafeMutablePointer<Float>, rows: Range<Int>) {
    guard let bias else { return }
    for row in rows.lowerBound..<min(rows.upperBound, bias.count) { output[row] += bias[row] }
  }

  /// What the products of gate and up are for, silu(gate) · up, in the place of gate; without a gate
  /// gelu(up).
  ///
  /// - Parameter rows: of the products.
  func activate(
    _ gate: UnsafeMutablePointer<Float>, by up: UnsafeMutablePointer<Float>?, rows: Range<Int>
  ) {
    let first = rows.lowerBound
    if let up {
      kernels.gatedSilu(
        gate: gate + first, up: up + first, count: rows.count, output: gate + first)
    } else {
      kernels.gelu(gate + first, count: rows.count, output: gate + first)
    }
  }
}

/// What is done with some rows of a product's results of a token, as soon as a thread has them.
typealias RowFinish = (_ token: Int, _ rows: Range<Int>) -> Void

extension WeightMatrix {
  /// Whether activations loaded for this matrix serve `other` too.
  func takesSameActivations(as other: WeightMatrix) -> Bool {
    encoding.blockSize == other.encoding.blockSize && columnScales === other.columnScales
      && geometry.columns == other.geometry.columns
  }
}
