internal import Synchronization
package import TensorCore

/// How far the values of a tensor are from those that they are compared with.
package struct ValueComparison: Sendable {
  /// Of the values against the original ones.
  package let statistics: ErrorStatistics
  /// Elements that differ; 0 and −0 do not, nor do two NaN of the same bits.
  package let differingCount: Int

  /// Compares all elements with all threads of the pool; the result does not depend on their number.
  /// - Precondition: both have the same rows and columns.
  package init(of values: TensorRows, against original: TensorRows, pool: WorkerPool) {
    let (rowCount, columns) = (original.rows, original.columns)
    precondition(values.rows == rowCount && values.columns == columns)
    let rows = [RowSums](unsafeUninitializedCapacity: rowCount) { buffer, count in
      nonisolated(unsafe) let buffer = buffer
      pool.parallelRanges(rowCount, minimum: 8) { range in
        let scratch = AlignedBuffer(byteCount: max(1, 2 * columns * 4))
        let (w, v) = (scratch.floats, scratch.floats + columns)
        for row in range {
          original.copyRow(row, into: w)
          values.copyRow(row, into: v)
          buffer.initializeElement(at: row, to: RowSums(w, v, columns))
        }
      }
      count = rowCount
    }
    var total = RowSums()
    for row in rows { total.add(row) }
    statistics = total.statistics
    differingCount = total.differingCount
  }
}

/// Sums over a row, added up in column order.
private struct RowSums {
  private var error = 0.0
  private var original = 0.0
  private var product = 0.0
  private var decoded = 0.0
  private var largest = 0.0
  private(set) var differingCount = 0

  init() {}

  init(_ w: UnsafePointer<Float>, _ v: UnsafePointer<Float>, _ count: Int) {
    for column in 0..<count {
      if w[column] != v[column] && w[column].bitPattern != v[column].bitPattern {
        differingCount &+= 1
      }
      let (w, v) = (Double(w[column]), Double(v[column]))
      let difference = w - v
      error += difference * difference
      original += w * w
      product += w * v
      decoded += v * v
      largest = max(largest, abs(difference))
    }
  }

  mutating func add(_ row: RowSums) {
    error += row.error
    original += row.original
    product += row.product
    decoded += row.decoded
    largest = max(largest, row.largest)
    differingCount += row.differingCount
  }

  var statistics: ErrorStatistics {
    let norm = (original * decoded).squareRoot()
    return ErrorStatistics(
      normalizedMeanSquaredError: original == 0 ? (error == 0 ? 0 : .infinity) : error / original,
      maximumAbsoluteError: largest, cosineSimilarity: norm > 0 ? product / norm : 1)
  }
}

/// Whether two buffers of one length hold the same bytes, found out by all threads of the pool.
func areEqual(
  _ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer, pool: WorkerPool
) -> Bool {
  let differs = Atomic(false)
  pool.parallelFor(SlabFormat.frameCount(a.count)) { index in
    if differs.load(ordering: .relaxed) { return }
    let range = SlabFormat.frameRange(index, of: a.count)
    if !SystemCalls.areEqual(
      UnsafeRawBufferPointer(rebasing: a[range]), UnsafeRawBufferPointer(rebasing: b[range]))
    {
      differs.store(true, ordering: .relaxed)
    }
  }
  return !differs.load(ordering: .relaxed)
}
