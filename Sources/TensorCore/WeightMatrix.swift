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
  ///     says, aligned to 64 bytes.
  ///   - owners: what keeps the buffers alive.
  /// - Precondition: sizes and alignment are as said; readers of files check before.
  public init(
    encoding: BlockEncoding, geometry: PanelGeometry,
    streams: [StreamKind: UnsafeRawBufferPointer], columnScales: ColumnScales? = nil,
    owners: [AnyObject]
  ) {
    for kind in encoding.streams {
      precondition(streams[kind]?.count == geometry.byteCount(of: kind, in: encoding))
      precondition(Int(bitPattern: streams[kind]!.baseAddress) % 64 == 0)
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

  /// The factors, padded with zeros to a multiple of 32.
  public var pointer: UnsafePointer<Float> { UnsafePointer(buffer.floats) }
}
