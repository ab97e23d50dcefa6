import ModelFiles
import TensorCore

/// The activations of a batch: one row of float32 features for each token.
struct Rows {
  let pointer: UnsafeMutablePointer<Float>
  /// Floats from one row to the next.
  let stride: Int

  init(_ pointer: UnsafeMutablePointer<Float>, stride: Int) {
    self.pointer = pointer
    self.stride = stride
  }

  subscript(token: Int) -> UnsafeMutablePointer<Float> { pointer + token * stride }
}

/// The matrices of a chunk of tokens on their way through the layers; reused from chunk to chunk.
final class Workspace {
  let tokenCapacity: Int
  let activations: Activations
  /// What the down projection of an MLP takes.
  let features: Activations
  /// The residual stream.
  let hidden: Rows
  /// What a branch reads: the normalized hidden state.
  let normalized: Rows
  /// What a branch adds.
  let branch: Rows
  /// Where the three are projected together, key and value too.
  let query: Rows
  let key: Rows
  let value: Rows
  /// Rotated queries, every head padded to 16 lanes.
  let rotated: Rows
  /// Results of attention, every head padded to 16 lanes; then without the padding.
  let context: Rows
  /// Gate and up projections, side by side; then the features, in the place of gate.
  let gateUp: Rows
  /// Gate, features, B, C and raw time steps of a Mamba2 layer.
  let projected: Rows
  /// Features, B and C after the convolution.
  let convolved: Rows
  /// What the heads of a Mamba2 layer give.
  let scanned: Rows
  /// Nil for a model without experts.
  let experts: ExpertWorkspace?
  /// Of the rotary angles at the tokens' positions.
  let cosines: Rows
  let sines: Rows
  private let memory: AlignedBuffer

  init(shape: ModelShape, tokenCapacity: Int) {
    self.tokenCapacity = tokenCapacity
    activations = Activations(
      maximumTokens: tokenCapacity, maximumColumns: shape.maximumColumns)
    features = Activations(
      maximumTokens: tokenCapacity, maximumColumns: shape.intermediateSize)
    experts = ExpertWorkspace(shape: shape, tokenCapacity: tokenCapacity)
    let strides = Self.strides(shape)
    memory = AlignedBuffer(byteCount: strides.reduce(0, +) * tokenCapacity * 4)
    var next = memory.floats
    let rows = strides.map { stride in
      defer { next += stride * tokenCapacity }
      return Rows(next, stride: stride)
    }
    (hidden, normalized, branch, query) = (rows[0], rows[1], rows[2], rows[3])
    (key, value, rotated, context, gateUp) = (rows[4], rows[5], rows[6], rows[7], rows[8])
    (cosines, sines) = (rows[9], rows[10])
    (projected, convolved, scanned) = (rows[11], rows[12], rows[13])
  }

  private static func strides(_ shape: ModelShape) -> [Int] {
    let hidden = padded(shape.hiddenSize)
    let keys = padded(shape.keyValueHeadCount * shape.headSize)
    let queries = padded(
      (shape.headCount + (shape.hasFusedAttention ? 2 * shape.keyValueHeadCount : 0))
        * shape.headSize)
    let heads = shape.headCount * shape.paddedHeadSize
    return [
      hidden, hidden, hidden, queries, keys, keys, heads, heads,
      2 * padded(shape.intermediateSize), padded(shape.headSize / 2), padded(shape.headSize / 2),
      padded(shape.mamba?.projectionSize ?? 0), padded(shape.mamba?.channelCount ?? 0),
      padded(shape.mamba?.innerSize ?? 0),
    ]
  }

  /// Bytes that a workspace takes.
  static func byteCount(shape: ModelShape, tokenCapacity: Int) -> Int {
    let perToken =
      strides(shape).reduce(0, +) * 4 + (shape.maximumColumns + shape.intermediateSize) * 6
      + ExpertWorkspace.byteCountPerToken(shape)
    return perToken * tokenCapacity
  }
}

/// `count` rounded up to whole panels of sixteen rows.
func padded(_ count: Int) -> Int { (count + 15) / 16 * 16 }
