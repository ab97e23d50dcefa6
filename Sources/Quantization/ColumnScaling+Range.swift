public import TensorCore

extension ColumnScaling {
  /// Whether dividing the columns of a matrix by their scales leaves every weight finite.
  ///
  /// Only weights near the end of float32's range can fail, and no model has a use for those: the largest
  /// weight is tried on the smallest scale, wherever they are. Reads the matrix once.
  public static func keepsFinite(
    _ source: MatrixView, dividedBy scales: ColumnScales, pool: WorkerPool
  ) -> Bool {
    let smallest = UnsafeBufferPointer(start: scales.pointer, count: scales.columns).min() ?? 1
    return (largestMagnitude(of: source, pool: pool) * (1 / smallest)).isFinite
  }

  /// Infinite or NaN if one weight is.
  private static func largestMagnitude(of source: MatrixView, pool: WorkerPool) -> Float {
    // Bits of magnitudes are ordered like their values, and integers are compared many at a time.
    var largest = [Int32](repeating: 0, count: source.rows)
    largest.withUnsafeMutableBufferPointer { buffer in
      let largest = SharedPointer(buffer.baseAddress!)
      pool.parallelRanges(source.rows, minimum: 16) { rows in
        let columns = source.columns
        let values = AlignedBuffer(byteCount: columns * 4)
        var most: Int32 = 0
        for row in rows {
          source.copyRow(row, into: values.floats)
          for column in 0..<columns {
            most = max(most, Int32(bitPattern: values.floats[column].bitPattern & 0x7FFF_FFFF))
          }
        }
        largest.pointer[rows.lowerBound] = most
      }
    }
    return Float(bitPattern: UInt32(bitPattern: largest.max() ?? 0))
  }
}
