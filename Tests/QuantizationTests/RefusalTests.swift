import Synchronization
import TensorCore
import TestSupport
import Testing

@testable import Quantization

@Suite struct RefusalTests {
  func error(_ body: () throws -> Void) -> QuantizationError? {
    do {
      try body()
      return nil
    } catch { return error as? QuantizationError }
  }

  @Test(arguments: BlockEncoding.allCases, [Float.nan, .infinity, -.infinity])
  func nonFiniteWeights(encoding: BlockEncoding, value: Float) {
    for (row, column) in [(0, 0), (16, 31), (40, 32), (99, 69)] {
      var matrix = Matrix.normal(rows: 100, columns: 70)
      matrix[row, column] = value
      matrix[99, 69] = value
      #expect(
        error { _ = try matrix.encode(as: encoding) } == .nonFinite(row: row, column: column))
    }
  }

  /// Asked before every panel, so that a large matrix does not keep anybody waiting.
  @Test(arguments: [BlockEncoding.q4b16, .q8b32, .bf16], [1, 2])
  func cancelledInTheMiddle(encoding: BlockEncoding, threads: Int) {
    let matrix = Matrix.normal(rows: 1600, columns: 40)
    let calls = Atomic(0)
    let cancelled = error {
      _ = try matrix.values.withUnsafeBytes { bytes in
        try Quantizer.encode(
          MatrixView(bytes, elementType: .f32, rows: 1600, columns: 40), as: encoding,
          pool: WorkerPool(threadCount: threads)
        ) { calls.add(1, ordering: .relaxed).newValue == 30 }
      }
    }
    #expect(cancelled == .cancelled)
    // Nobody asks again once the answer was yes, although it would be no.
    #expect((30..<30 + threads).contains(calls.load(ordering: .relaxed)))
  }

  @Test func weightsThatRoundToInfinity() throws {
    var matrix = Matrix.normal(rows: 20, columns: 20)
    matrix[18, 3] = -Float(bitPattern: 0x7F7F_7FFF)
    let isFinite = try matrix.encode(as: .bf16).matrix.decoded().values.allSatisfy { $0.isFinite }
    #expect(isFinite)
    matrix[18, 3] = -Float(bitPattern: 0x7F7F_8000)
    #expect(error { _ = try matrix.encode(as: .bf16) } == .nonFinite(row: 18, column: 3))
    #expect(try matrix.encode(as: .f32).matrix.decoded().values == matrix.values)
  }

  @Test func weightsThatOverflowTheirColumnScale() {
    var matrix = Matrix.normal(rows: 20, columns: 20)
    matrix[18, 3] = 1e30
    var scales = [Float](repeating: 1, count: 20)
    scales[3] = 1e-20
    #expect(
      error { _ = try matrix.encode(as: .q8b16, columnScales: ColumnScales(scales)) }
        == .nonFinite(row: 18, column: 3))
  }

  @Test func factorsOfColumns() {
    let matrix = Matrix.normal(rows: 4, columns: 3)
    #expect(
      error { _ = try matrix.encode(as: .q4b16, importance: [1, 2]) }
        == .importanceCount(expected: 3, found: 2))
    for value: Float in [-1, -.leastNonzeroMagnitude, .infinity] {
      #expect(
        error { _ = try matrix.encode(as: .q4b16, importance: [1, value, 1]) }
          == .invalidImportance(column: 1, value: value))
    }
    #expect(
      error { _ = try matrix.encode(as: .q4b16, columnScales: ColumnScales([1, 2, 3, 4])) }
        == .columnScaleCount(expected: 3, found: 4))
    for value: Float in [0, -1, .infinity, .leastNonzeroMagnitude, .greatestFiniteMagnitude] {
      #expect(
        error { _ = try matrix.encode(as: .q4b16, columnScales: ColumnScales([1, 1, value])) }
          == .invalidColumnScale(column: 2, value: value))
    }
    #expect(
      error { _ = try matrix.encode(as: .bf16, columnScales: ColumnScales([1, 1, 1])) }
        == .columnScalesNotSupported(.bf16))
    if case .invalidImportance(1, let value)? = error({
      _ = try matrix.encode(as: .q4b16, importance: [1, .nan, 1])
    }) {
      #expect(value.isNaN)
    } else {
      Issue.record("NaN was accepted")
    }
  }

  @Test func importanceWithoutInformationIsNone() throws {
    let matrix = Matrix.normal(rows: 20, columns: 70)
    let plain = try matrix.encode(as: .q4b16)
    for value: Float in [0, 1, 1e-30, .greatestFiniteMagnitude] {
      let encoded = try matrix.encode(
        as: .q4b16, importance: [Float](repeating: value, count: 70))
      #expect(encoded.matrix.allBytes == plain.matrix.allBytes)
    }
  }

  @Test func emptyMatrices() {
    for (rows, columns) in [(0, 5), (5, 0)] {
      #expect(
        error { _ = try Matrix(rows: rows, columns: columns) { _, _ in 0 }.encode(as: .q8b16) }
          == .unsupportedShape(rows: rows, columns: columns))
    }
  }
}
