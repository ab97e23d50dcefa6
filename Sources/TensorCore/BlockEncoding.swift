/// How the elements of a stored tensor are encoded: the table of formats.
///
/// A quantized weight is
/// `rowScale[n] * s(blockScale[n, k / blockSize]) * value(code[n, k]) * columnScale[k]` with
/// `s(b) = b * |b|`; `formats/blocks.md` is the specification. Raw values are the ids of the slab's
/// index and never change.
public enum BlockEncoding: UInt8, Sendable, CaseIterable {
  case f32 = 0
  case bf16 = 1
  case q4b16 = 2
  case q4b32 = 3
  case q8b16 = 4
  case q8b32 = 5

  public var name: String { "\(self)" }

  public init?(name: String) {
    guard let match = Self.allCases.first(where: { $0.name == name }) else { return nil }
    self = match
  }

  /// Bits of a code, or of an element where there are no codes.
  public var elementBits: Int {
    switch self {
    case .f32: 32
    case .bf16: 16
    case .q8b16, .q8b32: 8
    case .q4b16, .q4b32: 4
    }
  }

  /// Columns that share a block scale; nil for unquantized encodings.
  public var blockSize: Int? {
    switch self {
    case .f32, .bf16: nil
    case .q4b16, .q8b16: 16
    case .q4b32, .q8b32: 32
    }
  }

  public var isQuantized: Bool { blockSize != nil }

  /// Whether codes are indices into a 16-entry codebook, rather than values.
  public var hasCodebook: Bool { elementBits == 4 }

  /// The streams of a tensor in this encoding, in the order in which a segment stores them.
  public var streams: [StreamKind] {
    if !isQuantized { return [.elements] }
    return hasCodebook
      ? [.codes, .blockScales, .rowScales, .codebook] : [.codes, .blockScales, .rowScales]
  }
}

/// One byte plane of a tensor. Raw values are the ids of the slab's index.
public enum StreamKind: UInt8, Sendable, CaseIterable {
  case elements = 0
  case codes = 1
  case blockScales = 2
  case rowScales = 3
  case codebook = 4
}

/// How elements are ordered. Raw values are the ids of the slab's index.
public enum TensorLayout: UInt8, Sendable {
  /// Row-major float32 without padding: one-dimensional tensors, convolutions, column scales.
  case plain = 0
  /// Rows interleaved sixteen at a time: matrices, and the matrices of experts.
  case panel16 = 1
}

/// The shape of a matrix in layout ``TensorLayout/panel16`` and the size of its streams.
public struct PanelGeometry: Sendable, Equatable {
  /// Output features.
  public let rows: Int
  /// Input features.
  public let columns: Int

  /// Nil when a dimension is not positive or so large that a byte count could overflow.
  public init?(rows: Int, columns: Int) {
    guard rows > 0, columns > 0, rows <= 1 << 31, columns <= 1 << 24 else { return nil }
    self.rows = rows
    self.columns = columns
  }

  /// Panels: groups of sixteen rows, the last one padded.
  public var panelCount: Int { (rows + 15) / 16 }
  public var paddedRows: Int { panelCount * 16 }
  /// `columns` padded to a multiple of 32.
  public var paddedColumns: Int { (columns + 31) / 32 * 32 }

  /// Logical bytes of one stream of this matrix.
  public func byteCount(of stream: StreamKind, in encoding: BlockEncoding) -> Int {
    switch stream {
    case .elements, .codes: paddedRows * paddedColumns * encoding.elementBits / 8
    case .blockScales: paddedRows * (paddedColumns / encoding.blockSize!)
    case .rowScales: paddedRows * 4
    case .codebook: 16
    }
  }

  /// Logical bytes of all streams.
  public func byteCount(in encoding: BlockEncoding) -> Int {
    encoding.streams.reduce(0) { $0 + byteCount(of: $1, in: encoding) }
  }

  /// Index of the byte that holds the 8-bit code, and twice that for the first byte of a bf16 pair
  /// and so on: elements of a 64-byte line are 16 rows of `64 / 16 / bytes` columns.
  /// - Parameter elementBytes: 1 (q8), 2 (bf16) or 4 (f32).
  @inlinable
  public func elementOffset(row: Int, column: Int, elementBytes: Int) -> Int {
    let perRow = 4 / elementBytes  // columns of one row in a line
    let line = (row / 16) * (paddedColumns / perRow) + column / perRow
    return line * 64 + (row % 16) * 4 + (column % perRow) * elementBytes
  }

  /// Byte of a 4-bit code, and whether it is the high nibble: byte `4 r + j` of a line holds
  /// column `k0 + j` of row `r` low and column `k0 + 4 + j` high.
  @inlinable
  public func nibble(row: Int, column: Int) -> (offset: Int, high: Bool) {
    let line = (row / 16) * (paddedColumns / 8) + column / 8
    return (line * 64 + (row % 16) * 4 + column % 4, column % 8 >= 4)
  }

  /// Index of a block scale: sixteen contiguous ones for each (panel, block).
  @inlinable
  public func blockScaleOffset(row: Int, block: Int, blockSize: Int) -> Int {
    ((row / 16) * (paddedColumns / blockSize) + block) * 16 + row % 16
  }
}
