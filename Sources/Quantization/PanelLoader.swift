import TensorCore

/// Turns sixteen rows of a source matrix into a panel of float32 columns.
struct PanelLoader {
  let geometry: PanelGeometry
  let kernels: QuantizationKernels
  /// Bits of the smallest magnitude that is refused.
  let limit: UInt32
  private let rows: AlignedBuffer
  /// Bits of the largest magnitude of each row of the last panel, over its column scales.
  private(set) var largest = [UInt32](repeating: 0, count: 16)

  init(_ geometry: PanelGeometry, limit: UInt32 = 0x7F80_0000, kernels: QuantizationKernels) {
    self.geometry = geometry
    self.kernels = kernels
    self.limit = limit
    rows = AlignedBuffer(byteCount: 16 * geometry.columns * 4)
  }

  /// Writes panel `index` of `source` to `values`: sixteen rows interleaved, those beyond the
  /// matrix and columns beyond it zero.
  ///
  /// - Returns: the place of the first refused weight, nil if there is none.
  mutating func load(
    _ index: Int, of source: MatrixView, inverseColumnScales: UnsafePointer<Float>? = nil,
    values: UnsafeMutablePointer<Float>
  ) -> (row: Int, column: Int)? {
    let columns = geometry.columns
    for row in 0..<16 {
      let destination = rows.floats + row * columns
      if index * 16 + row < geometry.rows {
        source.copyRow(index * 16 + row, into: destination)
      } else {
        destination.update(repeating: 0, count: columns)
      }
    }
    kernels.load(
      rows: rows.floats, columns: columns, paddedColumns: geometry.paddedColumns,
      inverseColumnScales: inverseColumnScales, values: values, largest: &largest)
    let limit = limit
    guard let row = largest.firstIndex(where: { $0 >= limit }) else { return nil }
    let column = (0..<columns).first { column in
      let inverse = inverseColumnScales?[column] ?? 1
      return (rows.floats[row * columns + column] * inverse).magnitude.bitPattern >= limit
    }
    return (index * 16 + row, column!)  // the kernel has seen one in this row
  }
}
