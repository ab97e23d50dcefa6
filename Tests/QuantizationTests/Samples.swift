import TensorCore
import TestSupport

@testable import Quantization

/// A float32 matrix that owns its values.
struct Matrix {
  let rows: Int
  let columns: Int
  var values: [Float]

  init(rows: Int, columns: Int, _ value: (_ row: Int, _ column: Int) -> Float) {
    self.rows = rows
    self.columns = columns
    values = []
    values.reserveCapacity(rows * columns)
    for row in 0..<rows {
      for column in 0..<columns { values.append(value(row, column)) }
    }
  }

  /// Independent standard normal values.
  static func normal(rows: Int, columns: Int, seed: UInt64 = 1) -> Matrix {
    var random = SplitMix64(seed: seed)
    return Matrix(rows: rows, columns: columns) { _, _ in random.normal() }
  }

  subscript(row: Int, column: Int) -> Float {
    get { values[row * columns + column] }
    set { values[row * columns + column] = newValue }
  }

  func encode(
    as encoding: BlockEncoding, importance: [Float]? = nil, columnScales: ColumnScales? = nil,
    instructionSet: InstructionSet = InstructionSet.supported.last!, threads: Int = 2
  ) throws -> (matrix: WeightMatrix, statistics: ErrorStatistics) {
    try values.withUnsafeBytes { bytes in
      try Quantizer.encode(
        MatrixView(bytes, elementType: .f32, rows: rows, columns: columns), as: encoding,
        importance: importance, columnScales: columnScales, instructionSet: instructionSet,
        pool: WorkerPool(threadCount: threads))
    }
  }
}

extension WeightMatrix {
  /// All streams of the matrix, one after the other.
  var allBytes: [UInt8] { encoding.streams.flatMap { Array(stream($0)!) } }

  /// The decoded matrix, without padding.
  func decoded() -> Matrix {
    Matrix(rows: geometry.rows, columns: geometry.columns) {
      Reference.dequantize(self, row: $0, column: $1)
    }
  }
}

let quantizedEncodings: [BlockEncoding] = [.q4b16, .q4b32, .q8b16, .q8b32]

/// Σ(w − v)² / Σw² over the columns that `isCounted`, with weighted squares.
func normalizedError(
  _ original: Matrix, _ decoded: Matrix, weights: [Float]? = nil,
  isCounted: (Int) -> Bool = { _ in true }
) -> Double {
  var error = 0.0
  var norm = 0.0
  for row in 0..<original.rows {
    for column in 0..<original.columns where isCounted(column) {
      let weight = Double(weights?[column] ?? 1)
      let value = Double(original[row, column])
      let difference = value - Double(decoded[row, column])
      error += weight * difference * difference
      norm += weight * value * value
    }
  }
  return error / norm
}
