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
  /// How the batch is laid out: see `ck_activations`.
  private var tokenGroup = 1
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
    tokenGroup = kernels.tokenGroup(for: tokenCount)
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
          ? kernels.quantize(
            row, for: weights, token: token, tokenCount: tokenCount, codes: codes,
            scales: scaleBuffer.floats, starts: starts)
          : copy(row, token: token, columns: columns, tileColumns: kernels.tileColumns)
        if !finite { firstBad.min(token, ordering: .relaxed) }
      }
    }
    let bad = firstBad.load(ordering: .relaxed)
    if bad < tokenCount { throw NonFiniteActivation(token: bad) }
  }

  /// Copies one token's values to their places; false when one is not finite.
  private func copy(
    _ row: UnsafePointer<Float>, token: Int, columns: Int, tileColumns: Int
  ) -> Bool {
    let first = token / tokenGroup * tokenGroup
    let width = min(tokenGroup, tokenCount - first)
    var allFinite = true
    for tile in stride(from: 0, to: paddedColumns, by: min(tileColumns, paddedColumns)) {
      let count = min(tileColumns, paddedColumns - tile)
      let values = valueBuffer!.floats + tile * tokenCount + first * count + token - first
      let used = max(0, min(count, columns - tile))
      for column in 0..<used {
        let value = row[tile &+ column]
        allFinite = allFinite && value.isFinite
        values[column &* width] = value
      }
      for column in used..<count { values[column &* width] = 0 }
    }
    return allFinite
  }

  /// Whether products with `weights` may be computed from this batch.
  func serves(_ weights: WeightMatrix, kernels: Kernels) -> Bool {
    tokenGroup == kernels.tokenGroup(for: tokenCount)
      && paddedColumns == weights.geometry.paddedColumns
      && (!isQuantized || groupSize == weights.encoding.blockSize)
  }

  private var codes: UnsafeMutablePointer<Int8> {
    codeBuffer.base.assumingMemoryBound(to: Int8.self)
  }

  private var starts: UnsafeMutablePointer<Int32> {
    startBuffer.base.assumingMemoryBound(to: Int32.self)
  }

  /// One token's codes, while tokens are not interleaved.
  func codes(of token: Int) -> UnsafePointer<Int8> {
    UnsafePointer(codes + token * paddedColumns)
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
      codes: codes, scales: scaleBuffer.floats, starts: starts, values: valueBuffer?.floats,
      tokens: Int64(tokenCount))
  }
}

extension ck_activations {
  init(_ activations: Activations) { self = activations.batch }
}
