/// A weight matrix in layout `panel16`, as kernels read it: mapped from a slab or owned.
///
/// The value is immutable and keeps the memory behind it alive.
public struct WeightMatrix: @unchecked Sendable {  // immutable; `owners` keep the bytes alive
  public let encoding: BlockEncoding
  public let geometry: PanelGeometry
  /// Codes of a quantized matrix, or its elements.
  public let codes: UnsafeRawBufferPointer
  /// Empty unless quantized.
  public let blockScales: UnsafeBufferPointer<Int8>
  /// Empty unless quantized.
  public let rowScales: UnsafeBufferPointer<Float>
  /// Sixteen entries, or empty.
  public let codebook: UnsafeBufferPointer<Int8>
  /// Factors of the input columns, shared by the tensors that read the same input; nil means 1.
  /// Only quantized matrices have them.
  public let columnScales: ColumnScales?
  private let owners: [AnyObject]

  /// - Parameters:
  ///   - streams: one buffer for each of `encoding.streams`, of exactly the size that `geometry`
  ///     says, aligned to 64 bytes; block scales and codebook, which another expert's may come
  ///     before, to 16.
  ///   - owners: what keeps the buffers alive.
  /// - Precondition: sizes and alignment are as said; readers of files check before.
  public init(
    encoding: BlockEncoding, geometry: PanelGeometry,
    streams: [StreamKind: UnsafeRawBufferPointer], columnScales: ColumnScales? = nil,
    owners: [AnyObject]
  ) {
    for kind in encoding.streams {
      precondition(streams[kind]?.count == geometry.byteCount(of: kind, in: encoding))
      let alignment = kind == .blockScales || kind == .codebook ? 16 : 64
      precondition(Int(bitPattern: streams[kind]!.baseAddress) % alignment == 0)
    }
    precondition(columnScales == nil || encoding.isQuantized)
    precondition(columnScales == nil || columnScales!.columns == geometry.columns)
    self.encoding = encoding
    self.geometry = geometry
    self.codes = streams[encoding.isQuantized ? .codes : .elements]!
    self.blockScales = (streams[.blockScales] ?? .init(start: nil, count: 0)).bindMemory(
      to: Int8.self)
    self.rowScales = (streams[.rowScales] ?? .init(start: nil, count: 0)).bindMemory(to: Float.self)
    self.codebook = (streams[.codebook] ?? .init(start: nil, count: 0)).bindMemory(to: Int8.self)
    self.columnScales = columnScales
    self.owners = owners
  }

  /// The bytes of one stream, for writing them to a file; nil if the encoding has no such stream.
  public func stream(_ kind: StreamKind) -> UnsafeRawBufferPointer? {
    guard encoding.streams.contains(kind) else { return nil }
    switch kind {
    case .elements, .codes: return codes
    case .blockScales: return UnsafeRawBufferPointer(blockScales)
    case .rowScales: return UnsafeRawBufferPointer(rowScales)
    case .codebook: return UnsafeRawBufferPointer(codebook)
    }
  }
}

extension WeightMatrix {
  /// Writes the `geometry.columns` dequantized values of one row; see ``Reference/dequantize``.
  public func copyRow(_ row: Int, into destination: UnsafeMutablePointer<Float>) {
    precondition(0 <= row && row < geometry.rows)
    switch encoding {
    case .f32:
      let line = codes.baseAddress! + geometry.elementOffset(row: row, column: 0, elementBytes: 4)
      for column in 0..<geometry.columns {
        destination[column] = line.load(fromByteOffset: column &* 64, as: Float.self)
      }
    case .bf16:
      let line = codes.baseAddress! + geometry.elementOffset(row: row, column: 0, elementBytes: 2)
      for column in 0..<geometry.columns {
        let offset = (column &>> 1) &* 64 &+ (column & 1) &* 2
        destination[column] = Float(
          bfloat16Bits: line.load(fromByteOffset: offset, as: UInt16.self))
      }
    case .q4b16, .q4b32, .q8b16, .q8b32:
      copyQuantizedRow(row, into: destination)
    }
  }

  private func copyQuantizedRow(_ row: Int, into destination: UnsafeMutablePointer<Float>) {
    let blockSize = encoding.blockSize!
    let rowScale = rowScales[row]
    let factors = columnScales?.pointer
    let scales = blockScales.baseAddress!
    for block in 0..<(geometry.columns + blockSize - 1) / blockSize {
      let stored = Int32(
        scales[geometry.blockScaleOffset(row: row, block: block, blockSize: blockSize)])
      let scale = stored &* abs(stored)
      let first = block * blockSize
      for column in first..<min(first + blockSize, geometry.columns) {
        let scaled = Float(scale &* code(row: row, column: column)) * rowScale
        destination[column] = factors.map { scaled * $0[column] } ?? scaled
      }
    }
  }

  /// The integer that a code stands for.
  @inline(__always)
  private func code(row: Int, column: Int) -> Int32 {
    if encoding.hasCodebook {
      let (offset, high) = geometry.nibble(row: row, column: column)
      let byte = codes.baseAddress!.load(fromByteOffset: offset, as: UInt8.self)
      return Int32(codebook.baseAddress![Int(high ? byte >> 4 : byte & 15)])
    }
    let offset = geometry.elementOffset(row: row, column: column, elementBytes: 1)
    return Int32(codes.baseAddress!.load(fromByteOffset: offset, as: Int8.self))
  }
}

/// Factors of the input columns of the matrices that read one input.
public final class ColumnScales: Sendable {
  /// Logical columns.
  public let columns: Int
  private let buffer: AlignedBuffer

  public init(_ values: [Float]) {
    columns = values.count
    buffer = AlignedBuffer(byteCount: (values.count + 31) / 32 * 32 * 4)
    for (index, value) in values.enumerated() { buffer.floats[index] = value }
  }

  /// The factors of the logical columns.
  public var values: [Float] { Array(UnsafeBufferPointer(start: pointer, count: columns)) }
  /// The factors, padded with zeros to a multiple of 32.
  public var pointer: UnsafePointer<Float> { UnsafePointer(buffer.floats) }
}
