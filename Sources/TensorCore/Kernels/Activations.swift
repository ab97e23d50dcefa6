import CKernels

/// How activations enter a product with quantized weights.
public enum ActivationPrecision: String, Sendable, CaseIterable {
  /// Quantized per token to int8 in groups of the weight's block size: fast.
  case int8
  /// Unquantized, times the dequantized weights: slow and exact, to tell the two errors apart.
  case f32
}

/// A batch of tokens' activations in the form in which a weight matrix takes them; scratch memory
/// that is reused from product to product.
///
/// Only one thread at a time may load or begin a batch; any number may enter tokens, and multiply.
public final class Activations {
  public let maximumTokens: Int
  public let maximumColumns: Int
  public private(set) var tokenCount = 0
  /// Whether the batch holds codes and scales rather than float32 values.
  public private(set) var isQuantized = false
  private var paddedColumns = 0
  private var groupSize = 32
  /// Of the kernels that loaded it: others lay it out otherwise. Nil for the scalar reference.
  private(set) var table: UnsafePointer<ck_kernels>?
  private let codeBuffer: AlignedBuffer
  private let scaleBuffer: AlignedBuffer
  /// With which sums of products begin; see `ck_activations`.
  private let startBuffer: AlignedBuffer
  /// Allocated by the first batch that is not quantized.
  private var valueBuffer: AlignedBuffer?

  public init(maximumTokens: Int, maximumColumns: Int) {
    let columns = (maximumColumns + 31) / 32 * 32
    self.maximumTokens = maximumTokens
    self.maximumColumns = columns
    codeBuffer = AlignedBuffer(byteCount: maximumTokens * columns)
    scaleBuffer = AlignedBuffer(byteCount: maximumTokens * (columns / 16) * 4)
    startBuffer = AlignedBuffer(byteCount: maximumTokens * (columns / 16) * 4)
  }

  /// Begins a batch for products with `weights` and every other matrix of the same width, block size
  /// and column scales. Products with it may be made from now on; they are computed once it is
  /// entered, and before another batch is.
  ///
  /// - Parameter precision: what quantized matrices take; unquantized ones always take float32.
  public func begin(
    tokenCount: Int, for weights: WeightMatrix, precision: ActivationPrecision, kernels: Kernels
  ) -> ActivationEntry {
    precondition(tokenCount <= maximumTokens && weights.geometry.columns <= maximumColumns)
    self.tokenCount = tokenCount
    paddedColumns = weights.geometry.paddedColumns
    groupSize = weights.encoding.blockSize ?? 32
    table = kernels.table
    isQuantized = weights.encoding.isQuantized && precision == .int8
    if !isQuantized && valueBuffer == nil {
      valueBuffer = AlignedBuffer(byteCount: maximumTokens * maximumColumns * 4)
    }
    return ActivationEntry(
      weights: weights, isQuantized: isQuantized, kernels: kernels, codes: codes,
      scales: scaleBuffer.floats, starts: starts, values: valueBuffer?.floats)
  }

  /// Whether products with `weights` may be computed from this batch.
  func serves(_ weights: ck_weights) -> Bool {
    paddedColumns == Int(weights.padded_columns)
      && (!isQuantized || groupSize == Int(weights.block_size))
  }

  private var codes: UnsafeMutablePointer<Int8> {
    codeBuffer.base.assumingMemoryBound(to: Int8.self)
  }

  private var starts: UnsafeMutablePointer<Int32> {
    startBuffer.base.assumingMemoryBound(to: Int32.self)
  }

  /// One of the batches, as kernels take it.
  func batch(_ rows: Range<Int>) -> ck_activations {
    let first = rows.lowerBound * paddedColumns
    return ck_activations(
      codes: codes + first, scales: scaleBuffer.floats + first / groupSize,
      starts: starts + first / groupSize, values: valueBuffer.map { $0.floats + first },
      tokens: Int64(rows.count))
  }
}
