internal import Synchronization
public import TensorCore

/// How the elements of a tensor are distributed. Sums are in double precision over fixed pieces in a
/// fixed order: the figures do not depend on the number of threads.
public struct ValueStatistics: Sendable, Equatable {
  /// A row or a column, and how large its elements are.
  public struct Channel: Sendable, Equatable {
    public let index: Int
    /// Root of the mean square of its finite elements.
    public let rootMeanSquare: Double
    /// That, divided by the median over all rows or columns; infinite where the median is 0.
    public let ratio: Double
  }

  public private(set) var count = 0
  /// NaN and infinities, which are in none of the other figures.
  public private(set) var nonFiniteCount = 0
  public private(set) var zeroCount = 0
  public private(set) var minimum: Float = 0
  public private(set) var maximum: Float = 0
  public private(set) var mean = 0.0
  public private(set) var rootMeanSquare = 0.0
  /// Elements in ``binCount`` bins of one width from −``bound`` to ``bound``.
  public private(set) var histogram: [Int] = []
  /// The largest absolute value.
  public private(set) var bound: Float = 0
  /// The largest ones, descending; of columns and of rows, where there are several.
  public private(set) var columns: [Channel] = []
  public private(set) var rows: [Channel] = []

  public static let binCount = 21
  static let channelCount = 5
  /// Pieces of work, and the sums of columns that all of them may take.
  private static let pieceCount = 64
  private static let maximumSumCount = 1 << 22

  /// - Parameter pool: threads that read rows; twice.
  public init(_ values: TensorRows, pool: WorkerPool) {
    let (rows, columns) = (values.rows, values.columns)
    count = rows * columns
    guard count > 0 else {
      histogram = Array(repeating: 0, count: Self.binCount)
      return
    }
    let pieces = Self.pieces(rows, columns)
    let sums = Self.collect(pieces, pool) { Sums(values, rows: $0) }
    let total = sums.dropFirst().reduce(into: sums[0]) { $0.add($1) }
    nonFiniteCount = total.nonFiniteCount
    zeroCount = total.zeroCount
    let finiteCount = count - nonFiniteCount
    if finiteCount > 0 {
      (minimum, maximum) = (total.minimum, total.maximum)
      mean = total.sum / Double(finiteCount)
      rootMeanSquare = (total.squares.reduce(0, +) / Double(finiteCount)).squareRoot()
    }
    bound = max(-minimum, maximum)
    if columns > 1 { self.columns = Self.largest(total.squares, dividedBy: rows) }
    if rows > 1 {
      self.rows = Self.largest(sums.flatMap(\.rowSquares), dividedBy: columns)
    }
    let limit = bound
    let histograms = Self.collect(pieces, pool) { Self.histogram(values, rows: $0, bound: limit) }
    histogram = histograms.reduce(Array(repeating: 0, count: Self.binCount)) {
      zip($0, $1).map(+)
    }
  }

  private static func pieces(_ rows: Int, _ columns: Int) -> [Range<Int>] {
    let count = max(1, min(pieceCount, rows, maximumSumCount / columns))
    return (0..<count).map { rows * $0 / count..<rows * ($0 + 1) / count }
  }

  /// What `body` makes of each piece, in order.
  static func collect<Result: Sendable>(
    _ pieces: [Range<Int>], _ pool: WorkerPool, _ body: @Sendable (Range<Int>) -> Result
  ) -> [Result] {
    let results = Mutex<[Int: Result]>([:])
    pool.parallelFor(pieces.count) { index in
      let result = body(pieces[index])
      results.withLock { $0[index] = result }
    }
    return results.withLock { results in pieces.indices.map { results[$0]! } }
  }

  private static func largest(_ squares: [Double], dividedBy count: Int) -> [Channel] {
    let values = squares.map { ($0 / Double(count)).squareRoot() }
    let median = values.sorted()[values.count / 2]
    return values.indices.sorted { (values[$1], $0) < (values[$0], $1) }.prefix(channelCount)
      .map { index in
        Channel(
          index: index, rootMeanSquare: values[index],
          ratio: median > 0 ? values[index] / median : values[index] > 0 ? .infinity : 1)
      }
  }

  private static func histogram(
    _ values: TensorRows, rows: Range<Int>, bound: Float
  ) -> [Int] {
    var bins = Array(repeating: 0, count: binCount)
    guard bound > 0 else { return bins }
    let scale = Double(binCount) / 2 / Double(bound)
    withUnsafeTemporaryAllocation(of: Float.self, capacity: values.columns) { row in
      for index in rows {
        values.copyRow(index, into: row.baseAddress!)
        for value in row where value.isFinite {
          let place = Int(Double(value) * scale + Double(binCount) / 2)
          bins[min(max(place, 0), binCount - 1)] += 1
        }
      }
    }
    return bins
  }

  /// Of some rows.
  private struct Sums {
    var nonFiniteCount = 0
    var zeroCount = 0
    var minimum = Float.infinity
    var maximum = -Float.infinity
    var sum = 0.0
    /// Of each column.
    var squares: [Double] = []
    var rowSquares: [Double] = []

    init(_ values: TensorRows, rows: Range<Int>) {
      let columns = values.columns
      var squares = [Double](repeating: 0, count: columns)
      withUnsafeTemporaryAllocation(of: Float.self, capacity: columns) { row in
        for index in rows {
          values.copyRow(index, into: row.baseAddress!)
          var rowSquare = 0.0
          for column in 0..<columns {
            let value = row[column]
            guard value.isFinite else {
              nonFiniteCount += 1
              continue
            }
            if value == 0 { zeroCount += 1 }
            minimum = min(minimum, value)
            maximum = max(maximum, value)
            sum += Double(value)
            let square = Double(value) * Double(value)
            squares[column] += square
            rowSquare += square
          }
          rowSquares.append(rowSquare)
        }
      }
      self.squares = squares
    }

    mutating func add(_ other: Sums) {
      nonFiniteCount += other.nonFiniteCount
      zeroCount += other.zeroCount
      minimum = min(minimum, other.minimum)
      maximum = max(maximum, other.maximum)
      sum += other.sum
      for column in squares.indices { squares[column] += other.squares[column] }
    }
  }
}
