public import TensorCore

/// What the codes and scales of a quantized tensor say; padding counts nowhere. Rows are counted
/// through the matrices of all experts.
public struct BlockStatistics: Sendable {
  /// A block by what rounding to its grid can cost.
  public struct Block: Sendable, Equatable {
    public let row: Int
    /// Of the first column; all have that of ``BlockEncoding/blockSize``, the last of a row fewer.
    public let column: Int
    /// The stored scale.
    public let scale: Int8
    /// The largest distance of a weight inside the grid to the nearest value: half of the widest gap.
    public let largestRounding: Float
  }

  public private(set) var blockCount = 0
  /// Of each stored scale from −128 to 127.
  public private(set) var scaleCounts = Array(repeating: 0, count: 256)
  /// Of each code of a codebook, 16; where there is none, or one for each expert, of each value from
  /// −128 to 127.
  public private(set) var codeCounts: [Int]
  /// The value of each code.
  public let codeValues: [Int8]
  /// Of all rows.
  public let rowScales: (minimum: Float, median: Float, maximum: Float)
  /// Those whose grid is coarsest, descending.
  public private(set) var coarsest: [Block] = []

  static let listedCount = 5

  /// Blocks whose scale is 0: all their weights are 0.
  public var zeroBlockCount: Int { scaleCounts[128] }
  /// Blocks whose scale is as large as can be.
  public var saturatedBlockCount: Int { scaleCounts[0] + scaleCounts[1] + scaleCounts[255] }

  /// - Returns: nil for a tensor that is not quantized.
  public init?(_ weights: WeightTensor, pool: WorkerPool) {
    guard weights.encoding.isQuantized else { return nil }
    let geometry = weights.form.geometry
    let isIndexed = weights.encoding.hasCodebook && weights.matrices.count == 1
    codeValues =
      isIndexed ? Array(weights.matrices[0].codebook) : (0..<256).map { Int8($0 - 128) }
    codeCounts = Array(repeating: 0, count: codeValues.count)
    let scales = weights.matrices.flatMap { $0.rowScales.prefix(geometry.rows) }.sorted()
    rowScales = (scales[0], scales[scales.count / 2], scales[scales.count - 1])

    let pieceCount = max(1, min(64, geometry.panelCount) / weights.matrices.count)
    let pieces = weights.matrices.indices.flatMap { _ in
      (0..<pieceCount).map {
        geometry.panelCount * $0 / pieceCount..<geometry.panelCount * ($0 + 1) / pieceCount
      }
    }
    let parts = ValueStatistics.collect(pieces.indices.map { $0..<$0 + 1 }, pool) { piece in
      let matrix = piece.lowerBound / pieceCount
      return Part(
        weights.matrices[matrix], panels: pieces[piece.lowerBound],
        firstRow: matrix * geometry.rows, isIndexed: isIndexed)
    }
    for part in parts {
      blockCount += part.scaleCounts.reduce(0, +)
      for index in scaleCounts.indices { scaleCounts[index] += part.scaleCounts[index] }
      for index in codeCounts.indices { codeCounts[index] += part.codeCounts[index] }
      coarsest += part.coarsest
    }
    coarsest = Part.largest(coarsest)
  }

  /// Of some panels.
  private struct Part {
    var scaleCounts = Array(repeating: 0, count: 256)
    var codeCounts: [Int]
    var coarsest: [Block] = []

    /// - Parameters:
    ///   - firstRow: rows of the matrices before.
    ///   - isIndexed: whether codes are counted by their places in the codebook.
    init(_ matrix: WeightMatrix, panels: Range<Int>, firstRow: Int, isIndexed: Bool) {
      codeCounts = Array(repeating: 0, count: isIndexed ? 16 : 256)
      let geometry = matrix.geometry
      let values =
        matrix.encoding.hasCodebook ? matrix.codebook.map { Int($0) }.sorted() : [0, 1]
      let gap = zip(values.dropFirst(), values).map { $0 - $1 }.max()!
      let blockSize = matrix.encoding.blockSize!
      let blocks = (geometry.columns + blockSize - 1) / blockSize
      var least: Float = 0
      for row in panels.lowerBound * 16..<min(panels.upperBound * 16, geometry.rows) {
        for block in 0..<blocks {
          let scale = matrix.blockScales[
            geometry.blockScaleOffset(row: row, block: block, blockSize: blockSize)]
          scaleCounts[Int(scale) + 128] += 1
          let first = block * blockSize
          let columns = first..<min(first + blockSize, geometry.columns)
          count(matrix, row, columns, isIndexed: isIndexed)
          var rounding = Float(Int(scale) * Int(scale) * gap) / 2 * matrix.rowScales[row]
          if let factors = matrix.columnScales?.pointer {
            rounding *= columns.reduce(0) { max($0, factors[$1]) }
          }
          guard rounding.isFinite, rounding > least else { continue }
          coarsest.append(
            Block(row: firstRow + row, column: first, scale: scale, largestRounding: rounding))
          if coarsest.count >= 1024 {
            coarsest = Self.largest(coarsest)
            least = coarsest.last!.largestRounding
          }
        }
      }
      coarsest = Self.largest(coarsest)
    }

    private mutating func count(
      _ matrix: WeightMatrix, _ row: Int, _ columns: Range<Int>, isIndexed: Bool
    ) {
      let geometry = matrix.geometry
      for column in columns {
        if matrix.encoding.hasCodebook {
          let (offset, high) = geometry.nibble(row: row, column: column)
          let byte = matrix.codes[offset]
          let code = Int(high ? byte >> 4 : byte & 15)
          codeCounts[isIndexed ? code : Int(matrix.codebook[code]) + 128] += 1
        } else {
          let offset = geometry.elementOffset(row: row, column: column, elementBytes: 1)
          codeCounts[Int(Int8(bitPattern: matrix.codes[offset])) + 128] += 1
        }
      }
    }

    /// The first few, descending; of equal ones those that come first.
    static func largest(_ blocks: [Block]) -> [Block] {
      let sorted = blocks.sorted {
        ($1.largestRounding, $0.row, $0.column) < ($0.largestRounding, $1.row, $1.column)
      }
      return Array(sorted.prefix(BlockStatistics.listedCount))
    }
  }
}
