import TensorCore

/// How the rows of a tensor are written for compressed-tensors: bytes with a scale for each group of
/// columns, or bfloat16.
///
/// A row becomes a record of its elements, its scales, and what that changed.
struct CompressedTensorsRow {
  /// Columns that share a scale.
  static let groupSize = 32

  let columns: Int
  let isQuantized: Bool

  var elementByteCount: Int { isQuantized ? columns : 2 * columns }
  var scaleByteCount: Int { isQuantized ? columns / Self.groupSize * 2 : 0 }
  var byteCount: Int { elementByteCount + scaleByteCount + 16 }

  /// Sums of squares of weights and of their changes, added up in column order.
  struct Squares {
    var error = 0.0
    var weights = 0.0

    mutating func add(_ other: Squares) {
      error += other.error
      weights += other.weights
    }

    var normalizedError: Double { weights > 0 ? error / weights : 0 }
  }

  func squares(of record: UnsafeRawPointer) -> Squares {
    let place = elementByteCount + scaleByteCount
    return Squares(
      error: record.loadUnaligned(fromByteOffset: place, as: Double.self),
      weights: record.loadUnaligned(fromByteOffset: place + 8, as: Double.self))
  }

  /// Writes the record of a row, little-endian.
  /// - Returns: the first column whose value cannot be written.
  func encode(
    _ row: UnsafePointer<Float>, _ columns: Int, into record: UnsafeMutableRawPointer
  ) -> Int? {
    var squares = Squares()
    if isQuantized {
      let codes = record.assumingMemoryBound(to: UInt8.self)
      for group in 0..<columns / Self.groupSize {
        let first = group * Self.groupSize
        guard let scale = Self.scale(of: row + first) else {
          return (first..<columns).first { !row[$0].isFinite }
        }
        Self.encode(row + first, scale, into: codes + first, &squares)
        record.storeBytes(
          of: scale.bfloat16Bits, toByteOffset: elementByteCount + 2 * group, as: UInt16.self)
      }
    } else {
      if let fault = RowEncoding.bf16.encode(row, columns, into: record) { return fault }
      let elements = record.assumingMemoryBound(to: UInt16.self)
      for column in 0..<columns {
        squares.add(row[column], Float(bfloat16Bits: elements[column]))
      }
    }
    let place = elementByteCount + scaleByteCount
    record.storeBytes(of: squares.error, toByteOffset: place, as: Double.self)
    record.storeBytes(of: squares.weights, toByteOffset: place + 8, as: Double.self)
    return nil
  }

  /// A bfloat16 with which the largest magnitude is within half a step of 127; nil where a value is not
  /// finite. 127 steps of it are finite too: float32's largest number divided by 127 is rounded down.
  /// Where the scale would not be a normal number it is 1 and nothing but zero is left of the values:
  /// scales are positive, in every type that a program reads them as.
  private static func scale(of values: UnsafePointer<Float>) -> Float? {
    var largest: Float = 0
    var isFinite = true
    for index in 0..<groupSize {
      isFinite = isFinite && values[index].isFinite
      largest = max(largest, values[index].magnitude)
    }
    guard isFinite else { return nil }
    let scale = Float(bfloat16Bits: (largest / 127).bfloat16Bits)
    return scale < Float.leastNormalMagnitude ? 1 : scale
  }

  /// Codes are stored with 128 added: four of them make an int32 whose lowest bits are the first.
  private static func encode(
    _ values: UnsafePointer<Float>, _ scale: Float, into codes: UnsafeMutablePointer<UInt8>,
    _ squares: inout Squares
  ) {
    let inverse = 1 / scale
    for index in 0..<groupSize {
      // Adding 1.5 · 2^23 rounds to a whole number, ties to even.
      let code = (values[index] * inverse + 12_582_912) - 12_582_912
      codes[index] = UInt8(truncatingIfNeeded: Int32(code) + 128)
      squares.add(values[index], code * scale)
    }
  }
}

extension CompressedTensorsRow.Squares {
  fileprivate mutating func add(_ weight: Float, _ written: Float) {
    let difference = Double(weight) - Double(written)
    error += difference * difference
    weights += Double(weight) * Double(weight)
  }
}
