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
  /// Of the kernels that loaded it, for all tokens: other kernels lay them out otherwise.
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
  ///   - prepare: called with every row just before it is read, by the thread that reads it: what
  ///     computes it leaves it in that one's cache.
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
    precondition(source == nil || prepare == nil)
    let columns = weights.geometry.columns
    let tokenCount = batches.last?.upperBound ?? 0
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
    // Some thousands of columns are worth waking a thread for; fewer where they are computed too.
    let worthwhile = prepare == nil ? 1 << 14 : 1 << 12
    pool.parallelRanges(tokenCount, minimum: max(1, worthwhile / paddedColumns)) { tokens in
      var batch = 0
      for token in tokens {
        prepare?(token)
        while batches[batch].upperBound <= token { batch += 1 }
        let rows = batches[batch]
        let row = input + (source?[token] ?? token) * inputStride
        let finite =
          isQuantized
          ? kernels.quantize(
            row, for: weights, token: token - rows.lowerBound, tokenCount: rows.count,
            codes: codes + rows.lowerBound * paddedColumns, scales: scales(of: rows.lowerBound),
            starts: starts + rows.lowerBound * (paddedColumns / groupSize))
          : copy(row, token: token, of: rows, columns: columns, kernels: kernels)
        if !finite { firstBad.min(token, ordering: .relaxed) }
      }
    }
    let bad = firstBad.load(ordering: .relaxed)
    if bad < tokenCount { throw NonFiniteActivation(token: bad) }
  }

  /// Copies one token's values to their places; false when one is not finite.
  private func copy(
    _ row: UnsafePointer<Float>, token: Int, of batch: Range<Int>, columns: Int, kernels: Kernels
  ) -> Bool {
    let tileColumns = min(kernels.tileColumns, paddedColumns)
    let tokenGroup = kernels.tokenGroup(for: batch.count)
    let place = token - batch.lowerBound
    let first = place / tokenGroup * tokenGroup
    let width = min(tokenGroup, batch.count - first)
    let batchValues = valueBuffer!.floats + batch.lowerBound * paddedColumns
    var allFinite = true
    for tile in stride(from: 0, to: paddedColumns, by: tileColumns) {
      let count = min(tileColumns, paddedColumns - tile)
      let values = batchValues + tile * batch.count + first * count + place - first
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

  /// One token's scales, while tokens are not interleaved; those of a batch that begins with it.
  func scales(of token: Int) -> UnsafeMutablePointer<Float> {
    scaleBuffer.floats + token * (paddedColumns / groupSize)
  }

  /// One token's float32 values, zero-padded, while not quantized and not interleaved.
  func values(of token: Int) -> UnsafePointer<Float> {
    UnsafePointer(valueBuffer!.floats + token * paddedColumns)
  }

  /// One of the batches, as kernels take it.
  func batch(_ rows: Range<Int>) -> ck_activations {
    let first = rows.lowerBound
    return ck_activations(
      codes: codes + first * paddedColumns, scales: scales(of: first),
      starts: starts + first * (paddedColumns / groupSize),
      values: valueBuffer.map { $0.floats + first * paddedColumns }, tokens: Int64(rows.count))
  }
}
