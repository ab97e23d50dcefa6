import TensorCore
import Tokenization

/// Takes tokens of one or more sequences through a model: the scratch memory of it, which is reused
/// from pass to pass and grows with the longest.
final class ForwardPass {
  let model: Model
  let activations: ActivationPrecision
  private var workspace: Workspace
  /// What the next pass repeats if it has the same form.
  private var planned: (context: PassContext, steps: Steps)?
  private var logitsBuffer = AlignedBuffer(byteCount: 0)
  /// Tokens whose logits are computed together: few, for a row has the length of the vocabulary.
  static let logitsBatch = 16
  /// Shown the residual stream of all rows of a pass: at first, and after every layer.
  var observer: ((_ depth: Int, _ hidden: Rows, _ count: Int) -> Void)?

  init(model: Model, activations: ActivationPrecision) {
    self.model = model
    self.activations = activations
    workspace = Workspace(shape: model.shape, tokenCapacity: 1)
  }

  private func compute(tokenCount: Int) -> Compute {
    Compute(
      kernels: model.kernels, pool: model.pool, precision: activations, tokenCount: tokenCount)
  }

  /// Runs segments, whose rows are consecutive from 0.
  ///
  /// - Throws: ``PassFailure``; the caches then hold nothing that may be used past the positions
  ///   before, and the states nothing at all.
  func run(_ segments: [Segment]) throws(PassFailure) {
    guard let count = segments.last?.rows.upperBound else { return }
    if workspace.tokenCapacity < count {
      workspace = Workspace(shape: model.shape, tokenCapacity: count)
      planned = nil
    }
    for segment in segments {
      segment.cache.reserve(
        segment.position + segment.tokens.count, writingFrom: segment.position)
      precondition(segment.state == nil || segment.state?.position == segment.position)
      segment.state?.position = nil
    }
    let plan = AttentionPlan(segments, shape: model.shape, threadCount: model.pool.threadCount)
    let compute = compute(tokenCount: count)
    model.decoder.begin(segments, workspace: workspace, pool: model.pool)
    do throws(PassFailure) {
      if observer == nil, model.decoder.hasFixedSteps(with: compute) {
        try steps(for: segments, plan: plan, compute: compute).run()
      } else {
        try model.decoder.forward(
          context: PassContext(segments, plan: plan), workspace: workspace, compute: compute,
          observe: observer.map { observer in { observer($0, $1, count) } })
      }
    } catch {
      planned = nil
      throw error
    }
    for segment in segments {
      segment.state?.position = segment.position + segment.tokens.count
    }
  }

  /// The fixed steps of all layers, those of the last such pass if it had the same form: making them
  /// takes longer than a layer of a small model.
  private func steps(
    for segments: [Segment], plan: AttentionPlan, compute: Compute
  ) throws(PassFailure) -> Steps {
    if let planned, planned.context.form == PassContext.Form(segments, plan) {
      planned.context.update(segments, plan: plan)
      return planned.steps
    }
    let context = PassContext(segments, plan: plan)
    let steps = try model.decoder.steps(context: context, workspace: workspace, compute: compute)
    planned = (context, steps)
    return steps
  }

  /// The logits that follow rows of the last pass, at most ``logitsBatch`` of them; nil in place of
  /// those that are not finite. They are valid until the next call.
  ///
  /// - Throws: ``PassFailure``; its row is an index in `rows`.
  func logits(of rows: [Int]) throws(PassFailure) -> [UnsafeBufferPointer<Float>?] {
    precondition(rows.count <= Self.logitsBatch)
    let decoder = model.decoder
    let stride = decoder.output.weight.geometry.paddedRows
    if logitsBuffer.byteCount < rows.count * stride * 4 {
      logitsBuffer = AlignedBuffer(byteCount: rows.count * stride * 4)
    }
    let logits = Rows(logitsBuffer.floats, stride: stride)
    try decoder.logits(
      of: rows, workspace: workspace, compute: compute(tokenCount: rows.count), into: logits)
    return rows.indices.map { index in
      let values = UnsafeBufferPointer(start: logits[index], count: model.shape.vocabularySize)
      return values.allFinite ? values : nil
    }
  }
}

extension UnsafeBufferPointer<Float> {
  /// Whether no element is infinite or not a number.
  fileprivate var allFinite: Bool {
    var exponents: UInt32 = 0
    // An exponent of all ones, plus one in its last place, carries into the sign bit.
    for value in self { exponents |= (value.bitPattern & 0x7FFF_FFFF) &+ 0x0080_0000 }
    return exponents & 0x8000_0000 == 0
  }
}
