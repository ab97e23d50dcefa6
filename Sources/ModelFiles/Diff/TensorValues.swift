internal import Synchronization
package import TensorCore

/// The elements of a tensor of a slab or a checkpoint, row by row as float32: the last dimension is
/// the columns.
package enum TensorValues: Sendable {
  case panels(WeightMatrix)
  /// - `owner`: what keeps the memory of the view alive, where that is not the caller.
  case rows(MatrixView, owner: AlignedBuffer? = nil)

  package var rows: Int {
    switch self {
    case .panels(let matrix): matrix.geometry.rows
    case .rows(let view, _): view.rows
    }
  }

  package var columns: Int {
    switch self {
    case .panels(let matrix): matrix.geometry.columns
    case .rows(let view, _): view.columns
    }
  }

  /// Writes one row, dequantized with its column scales.
  package func copyRow(_ row: Int, into destination: UnsafeMutablePointer<Float>) {
    switch self {
    case .panels(let matrix): matrix.copyRow(row, into: destination)
    case .rows(let view, _): view.copyRow(row, into: destination)
    }
  }

  /// Rows and columns of a tensor of any number of dimensions.
  static func form(_ shape: [Int]) -> (rows: Int, columns: Int) {
    (shape.dropLast().reduce(1, *), shape.last ?? 1)
  }
}

extension Slab {
  /// The elements of a tensor in memory of their own, every digest checked: nothing is used where it
  /// is mapped.
  /// - Throws: ``SlabError`` if the tensor is damaged, or larger than this machine's memory.
  package func checkedValues(
    of tensor: SlabTensor, pool: WorkerPool
  ) throws(SlabError) -> TensorValues {
    var buffers: [StreamKind: AlignedBuffer] = [:]
    for stream in tensor.streams {
      buffers[stream.kind] = try file.decoded(stream, of: tensor, pool: pool)
    }
    guard let geometry = tensor.geometry else {
      let elements = buffers[.elements]!
      let (rows, columns) = TensorValues.form(tensor.shape)
      return .rows(
        MatrixView(elements.bytes, elementType: .f32, rows: rows, columns: columns),
        owner: elements)
    }
    let scales = try tensor.columnScales.map { name throws(SlabError) in
      try sharedColumnScales(named: name)
    }
    return .panels(
      WeightMatrix(
        encoding: tensor.encoding, geometry: geometry, streams: buffers.mapValues(\.bytes),
        columnScales: scales, owners: Array(buffers.values)))
  }
}

/// How far the values of a tensor are from those that they are compared with.
package struct ValueComparison: Sendable {
  /// Of the values against the original ones.
  package let statistics: ErrorStatistics
  /// Elements that differ; 0 and −0 do not, nor do two NaN of the same bits.
  package let differingCount: Int

  /// Compares all elements with all threads of the pool; the result does not depend on their number.
  /// - Precondition: both have the same rows and columns.
  package init(of values: TensorValues, against original: TensorValues, pool: WorkerPool) {
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
