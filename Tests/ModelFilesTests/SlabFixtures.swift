import Foundation
import TensorCore
import TestSupport

@testable import ModelFiles

/// Tensors and slabs that the tests of the container write and read.
enum SlabFixtures {
  static let pool = WorkerPool(threadCount: 2)

  /// A matrix with random content and the padding that the format demands.
  ///
  /// Codes, codebooks and block scales take all values, −128 included. Row 1 of a quantized matrix
  /// is zero, row 2 has a denormal row scale.
  static func matrix(
    _ encoding: BlockEncoding, rows: Int, columns: Int, seed: UInt64,
    columnScales: ColumnScales? = nil
  ) -> WeightMatrix {
    var random = SplitMix64(seed: seed)
    func byte(_ deviation: Float) -> Int8 {
      random.next() % 29 == 0 ? -128 : Int8(clamping: Int((random.normal() * deviation).rounded()))
    }
    return matrix(
      encoding, rows: rows, columns: columns, columnScales: columnScales,
      code: { row, _ in
        if row == 1 && encoding.isQuantized { return 0 }
        return encoding.hasCodebook ? Int8(clamping: (Int(byte(3)) + 8) & 15) : byte(40)
      },
      blockScale: { row, _ in row == 1 ? 0 : byte(40) },
      rowScale: { row in
        row == 1 ? 0 : row == 2 ? Float(bitPattern: 0x4321) : abs(random.normal()) * 1e-5
      },
      codebook: (0..<16).map { Int8(clamping: -128 + $0 * 17) },
      element: { _, _ in random.normal() })
  }

  /// A matrix of what the closures say; those of other encodings are not called.
  static func matrix(
    _ encoding: BlockEncoding, rows: Int, columns: Int, columnScales: ColumnScales?,
    code: (_ row: Int, _ column: Int) -> Int8, blockScale: (_ row: Int, _ block: Int) -> Int8,
    rowScale: (_ row: Int) -> Float, codebook: [Int8],
    element: ((_ row: Int, _ column: Int) -> Float)? = nil
  ) -> WeightMatrix {
    let geometry = PanelGeometry(rows: rows, columns: columns)!
    var buffers: [StreamKind: AlignedBuffer] = [:]
    for kind in encoding.streams {
      buffers[kind] = AlignedBuffer(byteCount: geometry.byteCount(of: kind, in: encoding))
    }
    func store<T>(_ value: T, _ kind: StreamKind, _ offset: Int) {
      buffers[kind]!.base.storeBytes(of: value, toByteOffset: offset, as: T.self)
    }
    for row in 0..<rows {
      for column in 0..<columns {
        let value = encoding.isQuantized ? 0 : element?(row, column) ?? Float(code(row, column))
        let offset = geometry.elementOffset(
          row: row, column: column, elementBytes: max(encoding.elementBits / 8, 1))
        switch encoding {
        case .f32: store(value, .elements, offset)
        case .bf16: store(value.bfloat16Bits, .elements, offset)
        case .q8b16, .q8b32: store(code(row, column), .codes, offset)
        case .q4b16, .q4b32:
          let (offset, high) = geometry.nibble(row: row, column: column)
          let index = UInt8(code(row, column))
          store(buffers[.codes]!.bytes[offset] | (high ? index << 4 : index), .codes, offset)
        }
      }
      guard let blockSize = encoding.blockSize else { continue }
      for block in 0..<(columns + blockSize - 1) / blockSize {
        let offset = geometry.blockScaleOffset(row: row, block: block, blockSize: blockSize)
        store(blockScale(row, block), .blockScales, offset)
      }
      store(rowScale(row), .rowScales, 4 * row)
    }
    if encoding.hasCodebook {
      for (entry, value) in codebook.enumerated() { store(value, .codebook, entry) }
    }
    return WeightMatrix(
      encoding: encoding, geometry: geometry, streams: buffers.mapValues(\.bytes),
      columnScales: columnScales, owners: Array(buffers.values))
  }

  /// Random positive factors.
  static func scales(_ count: Int, seed: UInt64) -> [Float] {
    values(count, seed: seed).map { abs($0) + 0.25 }
  }

  /// Random numbers.
  static func values(_ count: Int, seed: UInt64) -> [Float] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { _ in random.normal() }
  }

  /// Writes a slab; `body` appends its tensors.
  static func write(
    _ path: String, profile: SlabProfile, assets: [SlabAsset] = [],
    metadata: [String: String] = ["tool": "test"], replacing: Bool = false, inputs: [String] = [],
    expectedByteCount: Int = 0, pool: WorkerPool = pool,
    _ body: (SlabWriter) throws -> Void
  ) throws {
    let writer = try SlabWriter(
      path: path, profile: profile, replacing: replacing, inputs: inputs, assets: assets,
      metadata: metadata, expectedByteCount: expectedByteCount, pool: pool)
    try body(writer)
    try writer.finish()
  }

  static func bytes(_ path: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(filePath: path)))
  }
}

extension SlabFixtures {
  /// Matrices of one shape as the tensor of as many experts.
  static func experts(_ matrices: [WeightMatrix]) -> WeightTensor {
    let (encoding, columnScales) = (matrices[0].encoding, matrices[0].columnScales)
    let form = MatrixForm(count: matrices.count, geometry: matrices[0].geometry)!
    var buffers: [StreamKind: AlignedBuffer] = [:]
    for kind in encoding.streams {
      let buffer = AlignedBuffer(byteCount: form.byteCount(of: kind, in: encoding))
      for (index, matrix) in matrices.enumerated() {
        let range = form.range(ofMatrix: index, in: kind, encoding)
        (buffer.base + range.lowerBound).copyMemory(
          from: matrix.stream(kind)!.baseAddress!, byteCount: range.count)
      }
      buffers[kind] = buffer
    }
    return WeightTensor(
      encoding: encoding, form: form, streams: buffers.mapValues(\.bytes),
      columnScales: columnScales, owners: Array(buffers.values))
  }

  /// Random matrices of experts, each with content of its own.
  static func experts(
    _ encoding: BlockEncoding, count: Int, rows: Int, columns: Int,
    columnScales: ColumnScales? = nil
  ) -> WeightTensor {
    experts(
      (0..<count).map {
        matrix(
          encoding, rows: rows, columns: columns, seed: UInt64(100 + $0),
          columnScales: columnScales)
      })
  }
}

extension WeightMatrix {
  /// The bytes of all streams, in order.
  var allBytes: [[UInt8]] { encoding.streams.map { Array(stream($0)!) } }
}
