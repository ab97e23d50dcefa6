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
  /// The first token that has a value that is not finite; their number where none has.
  private let firstBad = Atomic(0)
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
    precondition(source == nil || prepare == nil)
    let tokenCount = batches.last?.upperBound ?? 0
    begin(tokenCount: tokenCount, for: weights, precision: precision, kernels: kernels)
    if let first = batches.first, batches.count == 1, tokenCount > 1,
      kernels.streamsWeights(tokenCount: tokenCount)
    {
      // All tokens are one group, whose codes share lines of the cache: a thread takes some columns.
      if let prepare { pool.parallelFor(tokenCount, prepare) }
      pool.parallelRanges(paddedColumns / 32, minimum: (1 << 12) / (32 * tokenCount)) { blocks in
        for token in first {
          enter(
            input + (source?[token] ?? token) * inputStride,
            columns: blocks.lowerBound * 32..<blocks.upperBound * 32,
            token: token, of: first, for: weights, kernels: kernels)
        }
      }
      try finish()
      return
    }
    // Some thousands of columns are worth waking a thread for; fewer where they are computed too.
    let worthwhile = prepare == nil ? 1 << 14 : 1 << 12
    pool.parallelRanges(tokenCount, minimum: max(1, worthwhile / paddedColumns)) { tokens in
      var batch = 0
      for token in tokens {
        prepare?(token)
        while batches[batch].upperBound <= token { batch += 1 }
        enter(
          input + (source?[token] ?? token) * inputStride, columns: 0..<paddedColumns,
          token: token, of: batches[batch], for: weights, kernels: kernels)
      }
    }
    try finish()
  }

  /// Begins what ``load(_:tokenCount:inputStride:for:precision:kernels:pool:preparing:)`` does in one
  /// call: now every token is entered, whole or in parts, by any thread; then comes ``finish()``.
  public func begin(
    tokenCount: Int, for weights: WeightMatrix, precision: ActivationPrecision, kernels: Kernels
  ) {
    precondition(tokenCount <= maximumTokens && weights.geometry.columns <= maximumColumns)
    self.tokenCount = tokenCount
    paddedColumns = weights.geometry.paddedColumns
    groupSize = weights.encoding.blockSize ?? 32
    table = kernels.table
    isQuantized = weights.encoding.isQuantized && precision == .int8
    if !isQuantized && valueBuffer == nil {
      valueBuffer = AlignedBuffer(byteCount: maximumTokens * maximumColumns * 4)
    }
    firstBad.store(tokenCount, ordering: .relaxed)
  }

  /// Enters some columns of a token, which were not entered before.
  ///
  /// - Parameters:
  ///   - row: the token's first column, whichever are entered.
  ///   - columns: whole blocks; those that end with the last column, or after it, end with the
  ///     padding.
  ///   - batch: the rows of the token's batch.
  ///   - weights: as when it began.
  public func enter(
    _ row: UnsafePointer<Float>, columns: Range<Int>, token: Int, of batch: Range<Int>,
    for weights: WeightMatrix, kernels: Kernels
  ) {
    let isLast = columns.upperBound >= weights.geometry.columns
    let columns = columns.lowerBound..<(isLast ? paddedColumns : columns.upperBound)
    let first = batch.lowerBound
    let isFinite =
      isQuantized
      ? kernels.quantize(
        row, columns: columns, for: weights, token: token - first, tokenCount: batch.count,
        codes: codes + first * paddedColumns, scales: scales(of: first),
        starts: starts + first * (paddedColumns / groupSize))
      : copy(
        row, columns: columns, used: weights.geometry.columns, token: token, of: batch,
        kernels: kernels)
    if !isFinite { firstBad.min(token, ordering: .relaxed) }
  }

  /// Ends what ``begin(tokenCount:for:precision:kernels:)`` began, once all tokens are entered.
  ///
  /// - Throws: ``NonFiniteActivation``.
  public func finish() throws(NonFiniteActivation) {
    let bad = firstBad.load(ordering: .relaxed)
    if bad < tokenCount { throw NonFiniteActivation(token: bad) }
  }

  /// Copies some of one token's values to their places, zeros for those that are not `used`; false
  /// when one is not finite.
  private func copy(
    _ row: UnsafePointer<Float>, columns: Range<Int>, used: Int, token: Int, of batch: Range<Int>,
    kernels: Kernels
  ) -> Bool {
    let tileColumns = min(kernels.tileColumns, paddedColumns)
    let tokenGroup = kernels.tokenGroup(for: batch.count)
    let place = token - batch.lowerBound
    let first = place / tokenGroup * tokenGroup
    let width = min(tokenGroup, batch.count - first)
    let batchValues = valueBuffer!.floats + batch.lowerBound * paddedColumns
    var allFinite = true
    var column = columns.lowerBound
    while column < columns.upperBound {
      let tile = column / tileColumns * tileColumns
      let count = min(tileColumns, paddedColumns - tile)
      let values = batchValues + tile * batch.count + first * count + place - first
      let end = min(columns.upperBound, tile + count)
      let usedEnd = max(column, min(end, used))
      for index in column..<usedEnd {
        let value = row[index]
        allFinite = allFinite && value.isFinite
        values[(index &- tile) &* width] = value
      }
      for index in usedEnd..<end { values[(index &- tile) &* width] = 0 }
      column = end
    }
    return allFinite
  }

  /// Whether products with `weights` may be computed from this batch.
  func serves(_ weights: WeightMatrix) -> Bool {
    paddedColumns == weights.geometry.paddedColumns
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
