import TensorCore
import TestSupport
import Testing

@testable import Quantization

/// Equality, bit by bit, with the scalar reference and between instruction sets and threads.
@Suite struct ExactnessTests {
  struct Case: CustomTestStringConvertible {
    var encoding: BlockEncoding
    var rows = 19
    var columns = 70
    var hasImportance = false
    var hasColumnScales = false

    var testDescription: String {
      "\(encoding) \(rows)×\(columns) importance \(hasImportance) scales \(hasColumnScales)"
    }
  }

  static let cases = quantizedEncodings.flatMap { encoding in
    [
      Case(encoding: encoding),
      Case(encoding: encoding, hasImportance: true),
      Case(encoding: encoding, hasColumnScales: true),
      Case(encoding: encoding, rows: 33, columns: 64, hasImportance: true, hasColumnScales: true),
      Case(encoding: encoding, rows: 1, columns: 1),
      Case(encoding: encoding, rows: 2, columns: 257),
    ]
  }

  /// Rows of every magnitude, some with outliers, zero blocks, or nothing at all.
  static func matrix(rows: Int, columns: Int) -> Matrix {
    var random = SplitMix64(seed: 7)
    return Matrix(rows: rows, columns: columns) { row, column in
      let value = random.normal()
      switch row % 8 {
      case 1: return value * 0x1p-140
      case 2: return value * 0x1p118
      case 3: return column % 40 == 3 ? value * 100 : value
      case 4: return column < 40 ? 0 : value * 0.02
      case 5: return row > 8 ? 0 : value * value * value
      case 6: return column % 9 == 0 ? 0x1p-148 : 0
      default: return value
      }
    }
  }

  static func factors(_ columns: Int) -> (importance: [Float], scales: ColumnScales) {
    var random = SplitMix64(seed: 9)
    let importance = (0..<columns).map { column in
      let value = random.normal()
      return column % 7 == 0 ? 0 : value * value
    }
    let scales = ColumnScales((0..<columns).map { Float($0 % 13 + 1) * 0.3 })
    return (importance, scales)
  }

  @Test(arguments: cases)
  func equalsReference(_ test: Case) throws {
    let matrix = Self.matrix(rows: test.rows, columns: test.columns)
    let factors = Self.factors(test.columns)
    let importance = test.hasImportance ? factors.importance : nil
    let encoded = try matrix.encode(
      as: test.encoding, importance: importance,
      columnScales: test.hasColumnScales ? factors.scales : nil
    ).matrix
    let geometry = encoded.geometry
    if test.encoding.hasCodebook {
      #expect(
        encoded.codebook.map { Float($0) }
          == (try ReferenceQuantizer.codebook(matrix, like: encoded, importance: importance)))
    }
    for row in 0..<test.rows {
      let expected = try ReferenceQuantizer.row(
        row, of: matrix, like: encoded, importance: importance)
      #expect(encoded.rowScales[row].bitPattern == expected.scale.bitPattern)
      let blockSize = test.encoding.blockSize!
      let blockScales = (0..<geometry.paddedColumns / blockSize).map {
        encoded.blockScales[
          geometry.blockScaleOffset(row: row, block: $0, blockSize: blockSize)]
      }
      #expect(blockScales == expected.blockScales, "block scales of row \(row)")
      let codes = (0..<geometry.paddedColumns).map { encoded.code(row: row, column: $0) }
      #expect(codes == expected.codes, "codes of row \(row)")
    }
  }

  @Test(arguments: BlockEncoding.allCases)
  func sameBytesForAnyThreadCount(encoding: BlockEncoding) throws {
    for threads in [2, 3, 7] {
      try expectSameBytes(encoding, .scalar, threads: threads)
    }
  }

  @Test(
    .enabled(if: InstructionSet.avx2.isSupported, "needs AVX2"), arguments: BlockEncoding.allCases)
  func sameBytesWithAVX2(encoding: BlockEncoding) throws {
    try expectSameBytes(encoding, .avx2, threads: 1)
  }

  @Test(
    .enabled(if: InstructionSet.avx512vnni.isSupported, "needs AVX-512 VNNI"),
    arguments: BlockEncoding.allCases)
  func sameBytesWithAVX512(encoding: BlockEncoding) throws {
    try expectSameBytes(encoding, .avx512vnni, threads: 2)
  }

  /// Compares with the scalar kernels on one thread.
  func expectSameBytes(
    _ encoding: BlockEncoding, _ instructionSet: InstructionSet, threads: Int
  ) throws {
    let matrix = Self.matrix(rows: 333, columns: 200)
    let factors = Self.factors(200)
    let importance = encoding.isQuantized ? factors.importance : nil
    let scales = encoding.isQuantized ? factors.scales : nil
    let expected = try matrix.encode(
      as: encoding, importance: importance, columnScales: scales, instructionSet: .scalar,
      threads: 1)
    let encoded = try matrix.encode(
      as: encoding, importance: importance, columnScales: scales, instructionSet: instructionSet,
      threads: threads)
    #expect(encoded.matrix.allBytes == expected.matrix.allBytes)
    #expect(encoded.statistics == expected.statistics)
  }
}

extension WeightMatrix {
  /// The stored code at (row, column), padding included.
  func code(row: Int, column: Int) -> Int {
    if encoding.hasCodebook {
      let (offset, high) = geometry.nibble(row: row, column: column)
      return Int(high ? codes[offset] >> 4 : codes[offset] & 15)
    }
    return Int(
      Int8(
        bitPattern: codes[geometry.elementOffset(row: row, column: column, elementBytes: 1)]))
  }
}
