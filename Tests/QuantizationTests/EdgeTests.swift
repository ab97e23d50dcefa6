import TensorCore
import TestSupport
import Testing

@testable import Quantization

@Suite struct EdgeTests {
  @Test(arguments: quantizedEncodings)
  func zeros(encoding: BlockEncoding) throws {
    let encoded = try Matrix(rows: 17, columns: 40) { _, _ in 0 }.encode(as: encoding)
    #expect(encoded.matrix.codes.allSatisfy { $0 == 0 })
    #expect(encoded.matrix.blockScales.allSatisfy { $0 == 0 })
    #expect(encoded.matrix.rowScales.allSatisfy { $0.bitPattern == 0 })
    #expect(encoded.matrix.decoded().values.allSatisfy { $0 == 0 })
    #expect(
      encoded.statistics
        == ErrorStatistics(
          normalizedMeanSquaredError: 0, maximumAbsoluteError: 0, cosineSimilarity: 1))
  }

  @Test(arguments: quantizedEncodings)
  func zeroRowsAndBlocks(encoding: BlockEncoding) throws {
    let normal = Matrix.normal(rows: 20, columns: 96)
    let matrix = Matrix(rows: 20, columns: 96) { row, column in
      row == 3 || (32..<64).contains(column) ? 0 : normal[row, column]
    }
    let encoded = try matrix.encode(as: encoding).matrix
    let decoded = encoded.decoded()
    for row in 0..<20 {
      for column in 0..<96 where matrix[row, column] == 0 {
        #expect(decoded[row, column] == 0)
        #expect(encoded.code(row: row, column: column) == 0)
      }
    }
    #expect(encoded.rowScales[3].bitPattern == 0)
    #expect(normalizedError(matrix, decoded) < 0.01)
  }

  /// A block far below its row's grid decodes to zeros or less than the grid's finest step.
  @Test(arguments: quantizedEncodings)
  func tinyBlocks(encoding: BlockEncoding) throws {
    let normal = Matrix.normal(rows: 16, columns: 64)
    for factor: Float in [0x1p-20, 0x1p-24, 0x1p-50, 0x1p-120] {
      let matrix = Matrix(rows: 16, columns: 64) {
        $1 < 32 ? normal[$0, $1] : normal[$0, $1] * factor
      }
      let decoded = try matrix.encode(as: encoding).matrix.decoded()
      for row in 0..<16 {
        for column in 32..<64 {
          let error = (matrix[row, column] - decoded[row, column]).magnitude
          #expect(error <= max(matrix[row, column].magnitude, 0x1p-18))
        }
      }
      #expect(normalizedError(matrix, decoded) < 0.01)
    }
  }

  /// Relative precision does not depend on the size of the weights, down to where float32 itself
  /// loses it.
  @Test(arguments: quantizedEncodings)
  func anyMagnitude(encoding: BlockEncoding) throws {
    let normal = Matrix.normal(rows: 32, columns: 256)
    let expected = try normal.encode(as: encoding)
    for exponent in [-120, -100, -30, 30, 100, 124] {
      let factor = Float(sign: .plus, exponent: exponent, significand: 1)
      let scaled = Matrix(rows: 32, columns: 256) { normal[$0, $1] * factor }
      let encoded = try scaled.encode(as: encoding)
      if exponent >= -100 {
        // Exactly: a power of two changes nothing but the row scales.
        #expect(Array(encoded.matrix.codes) == Array(expected.matrix.codes))
        #expect(Array(encoded.matrix.blockScales) == Array(expected.matrix.blockScales))
        #expect(
          encoded.statistics.normalizedMeanSquaredError
            == expected.statistics.normalizedMeanSquaredError)
      }
      #expect(encoded.statistics.normalizedMeanSquaredError < 0.006)
    }
  }

  @Test(arguments: quantizedEncodings)
  func extremes(encoding: BlockEncoding) throws {
    let largest = Float.greatestFiniteMagnitude
    let matrix = Matrix(rows: 5, columns: 33) { row, column in
      switch row {
      case 0: column % 2 == 0 ? largest : -largest
      case 1: Float(column) * Float.leastNonzeroMagnitude
      case 2: column == 7 ? .leastNonzeroMagnitude : 0
      case 3: column == 7 ? -1e30 : 1e-30
      default: Float.leastNormalMagnitude * Float(column - 16)
      }
    }
    let decoded = try matrix.encode(as: encoding).matrix.decoded()
    let isFinite = decoded.values.allSatisfy { $0.isFinite }
    #expect(isFinite)
    for row in 0..<5 {
      for column in 0..<33 {
        let bound = 0.25 * (0..<33).reduce(Float(0)) { max($0, matrix[row, $1].magnitude) }
        let error = (matrix[row, column] - decoded[row, column]).magnitude
        #expect(error <= max(bound, .leastNonzeroMagnitude))
      }
    }
  }

  /// Every small shape: finite, near, and zero in all padding.
  @Test(arguments: BlockEncoding.allCases)
  func smallShapes(encoding: BlockEncoding) throws {
    var random = SplitMix64(seed: 11)
    for rows in 1...33 {
      let columns = (rows * 7) % 33 + 1
      for (rows, columns) in [(rows, columns), (columns, rows)] {
        let matrix = Matrix(rows: rows, columns: columns) { _, _ in random.normal() }
        let encoded = try matrix.encode(as: encoding)
        #expect(encoded.statistics.normalizedMeanSquaredError < 0.02)
        expectCleanPadding(encoded.matrix)
      }
    }
  }

  func expectCleanPadding(_ matrix: WeightMatrix) {
    let geometry = matrix.geometry
    for row in 0..<geometry.paddedRows {
      for column in 0..<geometry.paddedColumns
      where row >= geometry.rows || column >= geometry.columns {
        if let blockSize = matrix.encoding.blockSize {
          #expect(matrix.code(row: row, column: column) == 0)
          let block = column / blockSize
          if row >= geometry.rows || block * blockSize >= geometry.columns {
            let offset = geometry.blockScaleOffset(row: row, block: block, blockSize: blockSize)
            #expect(matrix.blockScales[offset] == 0)
          }
        } else {
          #expect(Reference.dequantize(matrix, row: row, column: column).bitPattern == 0)
        }
      }
      if row >= geometry.rows && matrix.encoding.isQuantized {
        #expect(matrix.rowScales[row].bitPattern == 0)
      }
    }
  }

  @Test(arguments: [(1, 1), (16, 32), (17, 33), (40, 100)])
  func float32IsExact(rows: Int, columns: Int) throws {
    let matrix = Matrix.normal(rows: rows, columns: columns)
    let encoded = try matrix.encode(as: .f32)
    #expect(encoded.matrix.decoded().values == matrix.values)
    #expect(encoded.statistics == .lossless)
  }

  @Test func bfloat16RoundsToNearestEven() throws {
    let matrix = Matrix(rows: 3, columns: 5) { row, column in
      Float(bitPattern: [0x3F80_0000, 0x3F81_0000, 0x8000_0001][row] + UInt32(column) * 0x4000)
    }
    let encoded = try matrix.encode(as: .bf16)
    // Steps of a quarter of a bf16 step, from an even, an odd, and the smallest negative value.
    let expected: [UInt16] = [
      0x3F80, 0x3F80, 0x3F80, 0x3F81, 0x3F81,
      0x3F81, 0x3F81, 0x3F82, 0x3F82, 0x3F82,
      0x8000, 0x8000, 0x8001, 0x8001, 0x8001,
    ]
    #expect(
      encoded.matrix.decoded().values.map(\.bitPattern) == expected.map { UInt32($0) << 16 })
    #expect(encoded.statistics.normalizedMeanSquaredError > 0)
  }

  @Test func sourcesOfEveryElementType() throws {
    // Exact in all three types.
    let matrix = Matrix(rows: 18, columns: 37) { Float(($0 * 37 + $1) % 251 - 125) / 64 }
    let expected = try matrix.encode(as: .q4b16).matrix.allBytes
    let bf16 = matrix.values.map(\.bfloat16Bits)
    let f16 = matrix.values.map { Float16($0).bitPattern }
    for (elementType, elements) in [(ElementType.bf16, bf16), (.f16, f16)] {
      let encoded = try elements.withUnsafeBytes { bytes in
        try Quantizer.encode(
          MatrixView(bytes, elementType: elementType, rows: 18, columns: 37), as: .q4b16,
          pool: WorkerPool(threadCount: 2))
      }
      #expect(encoded.matrix.allBytes == expected)
    }
  }
}
