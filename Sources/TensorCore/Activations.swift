/// A batch of tokens' activations in the form in which a weight matrix takes them; scratch memory
/// that is reused from product to product.
public final class Activations {
  public let maximumTokens: Int
  public let maximumColumns: Int
  public private(set) var tokenCount = 0
  /// Whether the batch holds codes and scales rather than float32 values.
  public private(set) var isQuantized = false
  private var paddedColumns = 0
  private var groupSize = 32
  private let codeBuffer: AlignedBuffer
  private let scaleBuffer: AlignedBuffer
  private let sumBuffer: AlignedBuffer
  private let valueBuffer: AlignedBuffer

  public init(maximumTokens: Int, maximumColumns: Int) {
    let columns = (maximumColumns + 31) / 32 * 32
    self.maximumTokens = maximumTokens
    self.maximumColumns = columns
    codeBuffer = AlignedBuffer(byteCount: maximumTokens * columns)
    scaleBuffer = AlignedBuffer(byteCount: maximumTokens * (columns / 16) * 4)
    sumBuffer = AlignedBuffer(byteCount: maximumTokens * (columns / 16) * 4)
    valueBuffer = AlignedBuffer(byteCount: maximumTokens * columns * 4)
  }

  /// Prepares `tokenCount` rows of `input` for products with `weights` and every other matrix of
  /// the same block size and column scales.
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
    isQuantized = weights.encoding.isQuantized && precision == .int8
    for token in 0..<tokenCount {
      let row = valueBuffer.floats + token * paddedColumns
      row.update(from: input + token * inputStride, count: columns)
      (row + columns).update(repeating: 0, count: paddedColumns - columns)
      if isQuantized {
        let groups = paddedColumns / groupSize
        let finite = Reference.quantizeActivations(
          row, columnScales: weights.columnScales?.pointer, paddedColumns: paddedColumns,
          groupSize: groupSize,
          codes: codeBuffer.base.assumingMemoryBound(to: Int8.self) + token * paddedColumns,
          scales: scaleBuffer.floats + token * groups,
          sums: sumBuffer.base.assumingMemoryBound(to: Int32.self) + token * groups)
        if !finite { throw NonFiniteActivation(token: token) }
      } else if !(0..<columns).allSatisfy({ row[$0].isFinite }) {
        throw NonFiniteActivation(token: token)
      }
    }
  }

  /// One token's float32 values, zero-padded; only while not quantized.
  public func values(of token: Int) -> UnsafePointer<Float> {
    UnsafePointer(valueBuffer.floats + token * paddedColumns)
  }

  public func codes(of token: Int) -> UnsafePointer<Int8> {
    UnsafePointer(codeBuffer.base.assumingMemoryBound(to: Int8.self) + token * paddedColumns)
  }

  public func scales(of token: Int) -> UnsafePointer<Float> {
    UnsafePointer(scaleBuffer.floats + token * (paddedColumns / groupSize))
  }
}
