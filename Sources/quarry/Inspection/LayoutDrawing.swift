import JSON
import ModelFiles
import TensorCore

/// How the bytes of a tensor become its values, drawn with the first of them (formats/blocks.md).
struct LayoutDrawing {
  private let tensor: ListedTensor
  private let matrix: WeightMatrix?

  init(_ tensor: ListedTensor, _ matrix: WeightMatrix?) {
    self.tensor = tensor
    self.matrix = matrix
  }

  static func name(_ stream: StreamKind) -> String {
    switch stream {
    case .elements: "elements"
    case .codes: "codes"
    case .blockScales: "block scales"
    case .rowScales: "row scales"
    case .codebook: "codebook"
    }
  }

  func text(_ screen: Screen) -> String {
    if let matrix {
      let block = matrix.encoding.isQuantized ? "\n\n" + block(matrix, screen) : ""
      return line(matrix, screen) + block
    }
    if tensor.layout == "blocks",
      let type = GGUFType.all.first(where: { $0.name == tensor.encoding })
    {
      let columns = tensor.shape.last ?? 1
      return screen.titled(
        "layout",
        "rows one after the other, each \(columns / type.blockSize) blocks of \(type.blockSize) "
          + "columns in \(type.blockByteCount) bytes, scales included")
    }
    return screen.titled("layout", "row-major, nothing between elements")
  }

  /// The first line of 64 bytes: sixteen rows of a few columns.
  private func line(_ matrix: WeightMatrix, _ screen: Screen) -> String {
    let bits = matrix.encoding.elementBits
    let columns = 32 / bits
    let geometry = matrix.geometry
    let what = matrix.encoding.isQuantized ? "codes" : "elements"
    var table = ScreenTable(columns: [.init(title: "row")])
    let padded = 16 - min(16, geometry.rows)
    let halves =
      "; a byte has column k of its row in its low half and k + 4 in its high half"
    let title = screen.titled(
      "layout",
      "panels of 16 rows; the first line of \(what), 64 bytes, has \(columns) "
        + "column\(columns == 1 ? "" : "s") of rows 0…15"
        + (padded > 0 ? ", of which \(padded) are padding" : "") + (bits == 4 ? halves : ""))
    switch bits {
    case 4:
      table = Self.table((0..<4).map { "byte \($0): k\($0) k\($0 + 4)" })
    case 8: table = Self.table((0..<4).map { "byte \($0): k\($0)" })
    case 16: table = Self.table(["bytes 0–1: k0", "bytes 2–3: k1"])
    default: table = Self.table(["bytes 0–3: k0"])
    }
    for row in 0..<16 {
      let cells = (0..<32 / max(bits, 8)).map { place -> String in
        let offset = row * 4 + place * max(bits, 8) / 8
        switch bits {
        case 4:
          let byte = matrix.codes[offset]
          return "\(byte & 15) \(Self.right(byte >> 4, 2))"
        case 8: return "\(Int8(bitPattern: matrix.codes[offset]))"
        case 16:
          let bits = matrix.codes.load(fromByteOffset: offset, as: UInt16.self)
          return "\(Float(bfloat16Bits: bits))"
        default: return "\(matrix.codes.load(fromByteOffset: offset, as: Float.self))"
        }
      }
      // The rows between look alike.
      if (3..<15).contains(row) {
        if row == 3 { table.rows.append(["…"] + cells.map { _ in "" }) }
      } else {
        table.rows.append(["\(row)"] + cells)
      }
    }
    let rest = screen.paragraph(
      "The next line has the next \(columns); a panel has \(geometry.paddedColumns / columns) lines, "
        + "the matrix \(geometry.panelCount) panels.")
    return [title, table.text(screen), rest].joined(separator: "\n")
  }

  private static func table(_ titles: [String]) -> ScreenTable {
    ScreenTable(
      columns: [.init(title: "row")] + titles.map { .init(title: $0, isRight: true) })
  }

  private static func right(_ value: UInt8, _ width: Int) -> String {
    let text = "\(value)"
    return String(repeating: " ", count: max(0, width - text.count)) + text
  }

  /// The first block of the first row: every factor and every product.
  private func block(_ matrix: WeightMatrix, _ screen: Screen) -> String {
    let geometry = matrix.geometry
    let size = matrix.encoding.blockSize!
    let columns = min(size, geometry.columns)
    let scale = Int(matrix.blockScales[0])
    let codes = (0..<columns).map { column -> Int in
      if matrix.encoding.hasCodebook {
        let (offset, high) = geometry.nibble(row: 0, column: column)
        return Int(high ? matrix.codes[offset] >> 4 : matrix.codes[offset] & 15)
      }
      let offset = geometry.elementOffset(row: 0, column: column, elementBytes: 1)
      return Int(Int8(bitPattern: matrix.codes[offset]))
    }
    let weights = [Float](unsafeUninitializedCapacity: geometry.columns) { buffer, count in
      matrix.copyRow(0, into: buffer.baseAddress!)
      count = geometry.columns
    }
    var table = ScreenTable(columns: [
      .init(title: "column", isRight: true), .init(title: "code", isRight: true),
      .init(title: "value", isRight: true),
      .init(title: "s · value", isRight: true, expendability: 2),
      .init(title: "column scale", isRight: true, expendability: 1),
      .init(title: "weight", isRight: true),
    ])
    for column in 0..<columns {
      let value = matrix.encoding.hasCodebook ? Int(matrix.codebook[codes[column]]) : codes[column]
      table.rows.append([
        "\(column)", "\(codes[column])", "\(value)", "\(scale * abs(scale) * value)",
        matrix.columnScales.map { "\($0.pointer[column])" } ?? "1", "\(weights[column])",
      ])
    }
    let title = screen.titled(
      "one block",
      "row 0, columns 0…\(columns - 1); block scale b = \(scale), s = b · |b| = "
        + "\(scale * abs(scale)), row scale \(matrix.rowScales[0]); weight = s · value · row scale "
        + "· column scale, value = \(matrix.encoding.hasCodebook ? "codebook[code]" : "code")")
    return title + "\n" + table.text(screen)
  }
}
