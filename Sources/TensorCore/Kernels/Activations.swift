import CKernels
import Synchronization

/// How activations enter a product with quantized weights.
public enum ActivationPrecision: String, Sendable, CaseIterable {
  /// Quantized per token to int8 in groups of the weight's block size: fast.
  case int8
  /// Unquantized, times the dequantized weights: slow and exact, to tell the two errors apart.
  case f32
}

/// An activation was infinite or not a number, so the product would be meaningless.
public struct NonFiniteActivation: Error, Equatable, CustomStringConvertible {
  /// Row of the batch, from 0: the first that has one.
  public let token: Int

  public var description: String { "a non-finite activation at token \(token) of the batch" }
}

/// A batch of tokens' activations in the form in which a weight matrix takes them; scratch memory
/// that is reused from product to product.
///
/// Only one thread at a time may load a batch; any number may multiply with it.
public final class Activations {
  public let maximumTokens: Int
  public let maximumColumns: Int
  public private(set) var tokenCount = 0
  /// Whether the batch holds codes and scales rather than float32 values.
  public private(set) var isQuantized = false
  private var paddedColumns = 0
  private var groupSize = 32
  /// Tokens of a full group: they are interleaved as `ck_activations` says.
  private var tokenGroup = 1
  private let codeBuffer: AlignedBuffer
  private let scaleBuffer: AlignedBuffer
  private let biasBuffer: AlignedBuffer
  /// Allocated by the first batch that is not quantized.
  private var valueBuffer: AlignedBuffer?

  public init(maximumTokens: Int, maximumColumns: Int) {
    let columns = (maximumColumns + 31) / 32 * 32
    self.maximumTokens = maximumTokens
    self.maximumColumns = columns
    codeBuffer = AlignedBuffer(byteCount: maximumTokens * columns)
    scaleBuffer = AlignedBuffer(byteCount: maximumTokens * (columns / 16) * 4)
    biasBuffer = AlignedBuffer(byteCount: maximumTokens * (columns / 16) * 4)
  }

  /// Prepares `tokenCount` rows of `input` for products with `weights` and every other matrix of
  /// the same width, block size and column scales.
  ///
  /// - Parameters:
  ///   - input: row t begins at `t · inputStride` and has `geometry.columns` values.
  ///   - precision: what quantized matrices take; unquantized ones always take float32.
  /// - Throws: ``NonFiniteActivation``.
  public func load(
    _ input: UnsafePointer<Float>, tokenCount: Int, inputStride: Int, for weights: WeightMatrix,
    precision: ActivationPrecision, kernels: Kernels, pool: WorkerPool
  ) throws(NonFiniteActivation) {
    let columns = weights.geometry.columns
    precondition(tokenCount <= maximumTokens && columns <= maximumColumns)
    self.tokenCount = tokenCount
    paddedColumns = weights.geometry.paddedColumns
    groupSize = weights.encoding.blockSize ?? 32
    tokenGroup = kernels.tokenGroup
    isQuantized = weights.encoding.isQuantized && precision == .int8
    if !isQuantized && valueBuffer == nil {
      valueBuffer = AlignedBuffer(byteCount: maximumTokens * maximumColumns * 4)
    }
    let firstBad = Atomic<Int>(tokenCount)
    // A piece of a few thousand columns is worth waking a thread for.
    pool.parallelRanges(tokenCount, minimum: max(1, (1 << 14) / paddedColumns)) { tokens in
      for token in tokens {
        let row = input + token * inputStride
        let finite =
          isQuantized
          ? quantize(row, token: token, columns: columns, for: weights, kernels: kernels)
          : copy(row, token: token, columns: columns)
        if !finite { firstBad.min(token, ordering: .relaxed) }
      }
    }
    let bad = firstBad.load(ordering: .relaxed)
    if bad < tokenCount { throw NonFiniteActivation(token: bad) }
  }

  /// Where a token lies: its group's first token, the group's width, its place in the group.
  private func place(of token: Int) -> (first: Int, width: Int, place: Int) {
    let first = token / tokenGroup * tokenGroup
    return (first, min(tokenGroup, tokenCount - first), token - first)
  }

  private func quantize(
    _ row: UnsafePointer<Float>, token: Int, columns: Int, for weights: WeightMatrix,
    kernels: Kernels
  ) -> Bool {
    let (first, width, place) = place(of: token)
    let blocks = first * (paddedColumns / groupSize) + place
    return kernels.quantize(
      row, columnScales: weights.columnScales?.pointer, columns: columns,
      paddedColumns: paddedColumns, groupSize: groupSize, width: width,
      codes: codeBuffer.base.assumingMemoryBound(to: Int8.self) + first * paddedColumns
        + 4 * place,
      scales: scaleBuffer.floats + blocks,
      biases: biasBuffer.base.assumingMemoryBound(to: Int32.self) + blocks)
  }

  private func copy(_ row: UnsafePointer<Float>, token: Int, columns: Int) -> Bool {
    let (first, width, place) = place(of: token)
    let values = valueBuffer!.floats + first * paddedColumns + place
    var allFinite = true
    for column in 0..<columns {
      let value = row[column]
      allFinite = allFinite && value.isFinite
      values[column &* width] = value
    }
    for column in columns..<paddedColumns { values[column &* width] = 0 }
    return allFinite
  }

  /// Whether products with `weights` may be computed from this batch.
  func serves(_ weights: WeightMatrix, kernels: Kernels) -> Bool {
    tokenGroup == kernels.tokenGroup && paddedColumns == weights.geometry.paddedColumns
      && (!isQuantized || groupSize == weights.encoding.blockSize)
  }

  /// One token's codes, while tokens are not interleaved.
  func codes(of token: Int) -> UnsafePointer<Int8> {
    UnsafePointer(codeBuffer.base.assumingMemoryBound(to: Int8.self) + token * paddedColumns)
  }

  /// One token's scales, while tokens are not interleaved.
  func scales(of token: Int) -> UnsafePointer<Float> {
    UnsafePointer(scaleBuffer.floats + token * (paddedColumns / groupSize))
  }

  /// One token's float32 values, zero-padded, while not quantized and not interleaved.
  func values(of token: Int) -> UnsafePointer<Float> {
    UnsafePointer(valueBuffer!.floats + token * paddedColumns)
  }

  fileprivate var batch: ck_activations {
    ck_activations(
      codes: codeBuffer.base.assumingMemoryBound(to: Int8.self), scales: scaleBuffer.floats,
      biases: biasBuffer.base.assumingMemoryBound(to: Int32.self), values: valueBuffer?.floats,
      tokens: Int64(tokenCount))
  }
}

extension ck_activations {
  init(_ activations: Activations) { self = activations.batch }
}
