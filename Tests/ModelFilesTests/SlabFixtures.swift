import Foundation
import TensorCore
import TestSupport

@testable import ModelFiles

/// Tensors and slabs that the tests of the container write and read.
enum SlabFixtures {
  static let pool = WorkerPool(threadCount: 2)

  /// A matrix with random content and the padding that the format demands.
  ///
  /// Codes, codebooks and block scales take all values, −128 included. Row 1 is a row of zeros, row
  /// 2 has a denormal row scale.
  static func matrix(
    _ encoding: BlockEncoding, rows: Int, columns: Int, seed: UInt64,
    columnScales: ColumnScales? = nil
  ) -> WeightMatrix {
    var random = SplitMix64(seed: seed)
    let geometry = PanelGeometry(rows: rows, columns: columns)!
    var buffers: [StreamKind: AlignedBuffer] = [:]
    for kind in encoding.streams {
      buffers[kind] = AlignedBuffer(byteCount: geometry.byteCount(of: kind, in: encoding))
    }
    func store<T>(_ value: T, _ kind: StreamKind, _ offset: Int) {
      buffers[kind]!.base.storeBytes(of: value, toByteOffset: offset, as: T.self)
    }
    for row in 0..<rows {
      let isZero = row == 1 && encoding.isQuantized
      for column in 0..<columns where !isZero {
        switch encoding {
        case .f32:
          store(
            random.normal(), .elements,
            geometry.elementOffset(row: row, column: column, elementBytes: 4))
        case .bf16:
          store(
            random.normal().bfloat16Bits, .elements,
            geometry.elementOffset(row: row, column: column, elementBytes: 2))
        case .q8b16, .q8b32:
          store(
            code(&random), .codes,
            geometry.elementOffset(row: row, column: column, elementBytes: 1))
        case .q4b16, .q4b32:
          let (offset, high) = geometry.nibble(row: row, column: column)
          let old = buffers[.codes]!.bytes[offset]
          let index = UInt8(clamping: Int((random.normal() * 3 + 8).rounded())) & 15
          store(old | (high ? index << 4 : index), .codes, offset)
        }
      }
      guard let blockSize = encoding.blockSize, !isZero else { continue }
      for block in 0..<(columns + blockSize - 1) / blockSize {
        store(
          code(&random), .blockScales,
          geometry.blockScaleOffset(row: row, block: block, blockSize: blockSize))
      }
      let scale = row == 2 ? Float(bitPattern: 0x0000_4321) : abs(random.normal()) * 1e-5
      store(scale, .rowScales, 4 * row)
    }
    if encoding.hasCodebook {
      for entry in 0..<16 { store(Int8(clamping: -128 + entry * 17), .codebook, entry) }
    }
    return WeightMatrix(
      encoding: encoding, geometry: geometry, streams: buffers.mapValues(\.bytes),
      columnScales: columnScales, owners: Array(buffers.values))
  }

  private static func code(_ random: inout SplitMix64) -> Int8 {
    random.next() % 29 == 0 ? -128 : Int8(clamping: Int((random.normal() * 40).rounded()))
  }

  /// Random positive factors, so that their products with weights are all kinds of numbers.
  static func scales(_ count: Int, seed: UInt64) -> [Float] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { _ in abs(random.normal()) + 0.25 }
  }

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

extension WeightMatrix {
  /// The bytes of all streams, in order.
  var allBytes: [[UInt8]] { encoding.streams.map { Array(stream($0)!) } }
}
