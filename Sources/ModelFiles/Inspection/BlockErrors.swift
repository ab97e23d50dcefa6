public import TensorCore

/// How far the values of a tensor are from those that it was made of, and where the most.
public struct BlockErrors: Sendable {
  /// Columns of a row that share a scale.
  public struct Block: Sendable, Equatable {
    public let row: Int
    public let columns: Range<Int>
    /// Σ(w − ŵ)²; infinite where that is no number.
    public let squaredError: Double
    /// That, divided by Σw².
    public let normalizedMeanSquaredError: Double
    /// max |w − ŵ|
    public let largestDifference: Double
  }

  /// Of the whole tensor.
  public let statistics: ErrorStatistics
  /// Σ(w − ŵ)² of all blocks.
  public private(set) var squaredError = 0.0
  /// Those with the largest squared errors, descending; of equal ones those that come first. Blocks
  /// without an error are none.
  public private(set) var largest: [Block] = []

  static let listedCount = 5

  /// Reads every value of both twice. The figures do not depend on the number of threads.
  /// - Parameter blockSize: columns of a block; the last of a row may have fewer.
  /// - Precondition: both have the same rows and columns.
  public init(
    of values: TensorRows, against original: TensorRows, blockSize: Int, pool: WorkerPool
  ) {
    statistics = ValueComparison(of: values, against: original, pool: pool).statistics
    let rows = values.rows
    let count = max(1, min(64, rows))
    let pieces = (0..<count).map { rows * $0 / count..<rows * ($0 + 1) / count }
    let parts = ValueStatistics.collect(pieces, pool) {
      Part(values, original, rows: $0, blockSize: blockSize)
    }
    for part in parts {
      squaredError += part.squaredError
      largest += part.largest
    }
    largest = Part.largest(largest)
  }

  /// Of some rows.
  private struct Part {
    var squaredError = 0.0
    var largest: [Block] = []

    init(_ values: TensorRows, _ original: TensorRows, rows: Range<Int>, blockSize: Int) {
      let columns = values.columns
      let scratch = AlignedBuffer(byteCount: max(1, 2 * columns * 4))
      let (w, v) = (scratch.floats, scratch.floats + columns)
      var least = 0.0
      for row in rows {
        original.copyRow(row, into: w)
        values.copyRow(row, into: v)
        for first in stride(from: 0, to: columns, by: blockSize) {
          let range = first..<min(first + blockSize, columns)
          let block = Block(row: row, columns: range, original: w, values: v)
          squaredError += block.squaredError
          guard block.squaredError > least else { continue }
          largest.append(block)
          if largest.count >= 1024 {
            largest = Self.largest(largest)
            least = largest.last!.squaredError
          }
        }
      }
      largest = Self.largest(largest)
    }

    static func largest(_ blocks: [Block]) -> [Block] {
      let sorted = blocks.sorted {
        ($1.squaredError, $0.row, $0.columns.lowerBound)
          < ($0.squaredError, $1.row, $1.columns.lowerBound)
      }
      return Array(sorted.prefix(BlockErrors.listedCount))
    }
  }
}

extension BlockErrors.Block {
  fileprivate init(
    row: Int, columns: Range<Int>, original: UnsafePointer<Float>, values: UnsafePointer<Float>
  ) {
    var (error, weights, largest) = (0.0, 0.0, 0.0)
    for column in columns {
      let (w, v) = (Double(original[column]), Double(values[column]))
      error += (w - v) * (w - v)
      weights += w * w
      largest = max(largest, abs(w - v))
    }
    self.row = row
    self.columns = columns
    squaredError = error.isNaN ? .infinity : error
    normalizedMeanSquaredError = squaredError == 0 ? 0 : squaredError / weights
    largestDifference = largest
  }
}
