import TensorCore

/// How the values of a row are written for other tools.
public enum RowEncoding: String, Sendable, CaseIterable {
  case f32, f16, bf16
  /// ggml's Q8_0: blocks of 32 columns, each a float16 scale and 32 signed bytes.
  case q8 = "q8_0"

  /// Columns of a block of `q8_0`.
  static let blockSize = 32
  private static let blockByteCount = 2 + blockSize

  /// - Precondition: rows of `q8_0` are whole blocks.
  func byteCount(columns: Int) -> Int {
    switch self {
    case .f32: 4 * columns
    case .f16, .bf16: 2 * columns
    case .q8: columns / Self.blockSize * Self.blockByteCount
    }
  }

  /// Writes a row, little-endian.
  /// - Returns: the first column whose value is not finite as this type.
  func encode(
    _ row: UnsafePointer<Float>, _ columns: Int, into destination: UnsafeMutableRawPointer
  ) -> Int? {
    switch self {
    case .f32:
      destination.copyMemory(from: row, byteCount: 4 * columns)
      return firstFault(row, columns) { $0.isFinite }
    case .bf16:
      let elements = destination.assumingMemoryBound(to: UInt16.self)
      var isFinite = true
      for column in 0..<columns {
        // Rounding may make an infinity of a number, or a number of a NaN.
        elements[column] = row[column].bfloat16Bits
        isFinite = isFinite && elements[column] & 0x7F80 != 0x7F80 && !row[column].isNaN
      }
      return isFinite
        ? nil
        : firstFault(row, columns) {
          $0.isFinite && Float(bfloat16Bits: $0.bfloat16Bits).isFinite
        }
    case .f16:
      let elements = destination.assumingMemoryBound(to: UInt16.self)
      var isFinite = true
      for column in 0..<columns {
        elements[column] = Float16(row[column]).bitPattern
        isFinite = isFinite && elements[column] & 0x7C00 != 0x7C00
      }
      return isFinite ? nil : firstFault(row, columns) { Float16($0).isFinite }
    case .q8:
      for block in 0..<columns / Self.blockSize {
        let first = block * Self.blockSize
        if let fault = Self.encodeBlock(
          row + first, into: destination + block * Self.blockByteCount)
        {
          return first + fault
        }
      }
      return nil
    }
  }

  private func firstFault(
    _ row: UnsafePointer<Float>, _ columns: Int, _ isFinite: (Float) -> Bool
  ) -> Int? {
    (0..<columns).first { !isFinite(row[$0]) }
  }

  /// The largest magnitude becomes 127; halves are rounded away from zero (`quantize_row_q8_0_ref` of
  /// ggml).
  private static func encodeBlock(
    _ values: UnsafePointer<Float>, into destination: UnsafeMutableRawPointer
  ) -> Int? {
    var largest: Float = 0
    var position = 0
    for index in 0..<blockSize {
      guard values[index].isFinite else { return index }
      if values[index].magnitude > largest {
        (largest, position) = (values[index].magnitude, index)
      }
    }
    let scale = largest / 127
    let bits = Float16(scale)
    guard bits.isFinite else { return position }
    // Of a scale whose inverse overflows, the float16 is zero, and so is every value.
    let inverse = scale == 0 || !(1 / scale).isFinite ? 0 : 1 / scale
    destination.storeBytes(of: bits.bitPattern, as: UInt16.self)
    for index in 0..<blockSize {
      destination.storeBytes(
        of: Int8((values[index] * inverse).rounded(.toNearestOrAwayFromZero)),
        toByteOffset: 2 + index, as: Int8.self)
    }
    return nil
  }
}
