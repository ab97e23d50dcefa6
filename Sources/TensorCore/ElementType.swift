/// The element types of checkpoint tensors that Quarry reads, spelled as safetensors spells them.
public enum ElementType: String, Sendable, CaseIterable {
  case f32 = "F32"
  case f16 = "F16"
  case bf16 = "BF16"

  public var byteCount: Int { self == .f32 ? 4 : 2 }
}

extension Float {
  /// The value of a bfloat16 bit pattern; exact.
  @inlinable
  public init(bfloat16Bits bits: UInt16) { self.init(bitPattern: UInt32(bits) << 16) }

  /// The value of an IEEE 754 binary16 bit pattern; exact, denormals included.
  ///
  /// `Float16` would do, but its conversion is a library call at the baseline instruction set.
  @inlinable
  public init(float16Bits bits: UInt16) {
    let sign = UInt32(bits & 0x8000) << 16
    let magnitude = UInt32(bits & 0x7FFF)
    if magnitude >= 0x7C00 {  // infinity, NaN
      self.init(bitPattern: sign | 0x7F80_0000 | (magnitude & 0x3FF) << 13)
    } else {
      // Shifting exponent and fraction into place leaves the value 2^112 too small.
      let scaled = Float(bitPattern: magnitude << 13) * 0x1p112
      self.init(bitPattern: scaled.bitPattern | sign)
    }
  }

  /// The nearest bfloat16, ties to even. Not for NaN.
  @inlinable
  public var bfloat16Bits: UInt16 {
    let rounding = 0x7FFF + (bitPattern >> 16 & 1)
    return UInt16(truncatingIfNeeded: (bitPattern &+ rounding) >> 16)
  }
}

/// A row-major matrix of a checkpoint, borrowed from memory that outlives it; no alignment is assumed.
public struct MatrixView: @unchecked Sendable {  // immutable bytes, read only
  public let elementType: ElementType
  public let rows: Int
  public let columns: Int
  private let bytes: UnsafeRawBufferPointer

  /// - Precondition: `bytes` holds exactly `rows * columns` elements.
  public init(
    _ bytes: UnsafeRawBufferPointer, elementType: ElementType, rows: Int, columns: Int
  ) {
    precondition(bytes.count == rows * columns * elementType.byteCount)
    self.bytes = bytes
    self.elementType = elementType
    self.rows = rows
    self.columns = columns
  }

  /// As many views of the same number of rows, in order.
  /// - Precondition: `count` divides the number of rows.
  public func split(into count: Int) -> [MatrixView] {
    precondition(count > 0 && rows % count == 0)
    let size = bytes.count / count
    return (0..<count).map { index in
      MatrixView(
        UnsafeRawBufferPointer(rebasing: bytes[index * size..<(index + 1) * size]),
        elementType: elementType, rows: rows / count, columns: columns)
    }
  }

  /// Converts row `row` to float32; exact for every element type.
  public func copyRow(_ row: Int, into destination: UnsafeMutablePointer<Float>) {
    precondition(0 <= row && row < rows)
    let start = row * columns * elementType.byteCount
    switch elementType {
    case .f32:
      for column in 0..<columns {
        destination[column] = bytes.loadUnaligned(
          fromByteOffset: start + 4 * column, as: Float.self)
      }
    case .bf16:
      for column in 0..<columns {
        destination[column] = Float(
          bfloat16Bits: bytes.loadUnaligned(fromByteOffset: start + 2 * column, as: UInt16.self))
      }
    case .f16:
      for column in 0..<columns {
        destination[column] = Float(
          float16Bits: bytes.loadUnaligned(fromByteOffset: start + 2 * column, as: UInt16.self))
      }
    }
  }
}
