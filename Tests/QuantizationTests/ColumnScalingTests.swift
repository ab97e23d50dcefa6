import TensorCore
import TestSupport
import Testing

@testable import Quantization

/// Column scales: what they are for any importance, and which exponent is chosen.
@Suite struct ColumnScalingTests {
  private static let columns = 96
  private static let pool = WorkerPool(threadCount: 2)

  /// Mean squares of columns, some far above the others.
  private static func importance(outlier: Float) -> [Float] {
    (0..<columns).map { ($0 % 24 == 5 ? outlier : 1) * (1 + Float($0 % 5) / 4) }
  }

  /// Tokens with these mean squares.
  private static func inputs(_ importance: [Float], seed: UInt64 = 9) -> [Float] {
    var random = SplitMix64(seed: seed)
    return (0..<32).flatMap { _ in importance.map { $0.squareRoot() * random.normal() } }
  }

  private static func exponent(
    _ matrices: [(Matrix, BlockEncoding)], _ importance: [Float],
    instructionSet: InstructionSet = .supported.last!, pool: WorkerPool = pool
  ) throws -> Double {
    let owners = matrices.map { matrix, _ in
      let buffer = AlignedBuffer(byteCount: matrix.values.count * 4)
      for (index, value) in matrix.values.enumerated() { buffer.floats[index] = value }
      return buffer
    }
    return try withExtendedLifetime(owners) {
      try ColumnScaling.exponent(
        for: zip(matrices, owners).map { matrix, owner in
          let view = MatrixView(
            UnsafeRawBufferPointer(
              rebasing: owner.bytes[..<(matrix.0.rows * matrix.0.columns * 4)]),
            elementType: .f32, rows: matrix.0.rows, columns: matrix.0.columns)
          return (view, matrix.1)
        }, importance: importance, inputs: inputs(importance),
        kernels: Kernels(instructionSet), pool: pool)
    }
  }

  /// Σ(ŷ − y)² / Σy² of the outputs with an exponent, from decoded weights and plainly quantized
  /// activations.
  private static func error(
    _ matrix: Matrix, _ encoding: BlockEncoding, _ importance: [Float], exponent: Double
  ) throws -> Double {
    let scales = ColumnScaling.scales(importance: importance, exponent: exponent)
    let c = (0..<columns).map { Double(scales.pointer[$0]) }
    let bytes = try matrix.values.withUnsafeBytes { bytes in
      try Quantizer.encode(
        MatrixView(bytes, elementType: .f32, rows: matrix.rows, columns: columns), as: encoding,
        importance: importance, columnScales: scales, instructionSet: .supported.last!,
        fitsCodebook: false, pool: pool
      ).matrix
    }
    let decoded = bytes.decoded()
    let (inputs, size) = (inputs(importance), encoding.blockSize!)
    var (error, energy) = (0.0, 0.0)
    for token in 0..<inputs.count / columns {
      let x = inputs[token * columns..<(token + 1) * columns].map(Double.init)
      let scaled = zip(x, c).map { $0 * $1 }
      var quantized: [Double] = []
      for start in stride(from: 0, to: columns, by: size) {
        let group = scaled[start..<min(start + size, columns)]
        let scale = (group.map(\.magnitude).max() ?? 0) / 127
        quantized += group.map { scale > 0 ? ($0 / scale).rounded() * scale : 0 }
      }
      for row in 0..<matrix.rows {
        var (found, exact) = (0.0, 0.0)
        for column in 0..<columns {
          found += Double(decoded[row, column]) / c[column] * quantized[column]
          exact += Double(matrix[row, column]) * x[column]
        }
        error += (found - exact) * (found - exact)
        energy += exact * exact
      }
    }
    return error / energy
  }

  @Test(arguments: quantizedEncodings, [Float(1), 30, 3000])
  func theExponentWithTheLeastErrorIsChosen(encoding: BlockEncoding, outlier: Float) throws {
    let matrix = Matrix.normal(rows: 48, columns: Self.columns, seed: 4)
    let importance = Self.importance(outlier: outlier)
    let errors = try ColumnScaling.exponents.map {
      try Self.error(matrix, encoding, importance, exponent: $0)
    }
    let chosen = try Self.exponent([(matrix, encoding)], importance)
    let place = try #require(ColumnScaling.exponents.firstIndex(of: chosen))
    // Sums of float32 and of doubles agree that far.
    #expect(errors[place] <= (errors.min() ?? 0) * 1.001, "\(chosen) \(errors)")
    if outlier > 100 { #expect(chosen > 0, "\(errors)") }
  }

  /// Where all columns count alike there is nothing to scale.
  @Test(arguments: quantizedEncodings) func equalColumnsStay(encoding: BlockEncoding) throws {
    let matrix = Matrix.normal(rows: 20, columns: Self.columns)
    let equal = [Float](repeating: 3, count: Self.columns)
    #expect(try Self.exponent([(matrix, encoding)], equal) == 0)
  }

  /// Matrices that read one input decide together.
  @Test func groupsDecideTogether() throws {
    let importance = Self.importance(outlier: 3000)
    let normal = Matrix.normal(rows: 48, columns: Self.columns, seed: 4)
    // Where the columns with outliers hold large weights already, scaling makes them larger.
    let other = Matrix(rows: 48, columns: Self.columns) { row, column in
      normal[row, column] * (column % 24 == 5 ? 1000 : 1)
    }
    let single = try [normal, other].map { try Self.exponent([($0, .q4b16)], importance) }
    #expect(single[0] != single[1], "\(single)")
    let both = try Self.exponent([(normal, .q4b16), (other, .q4b16)], importance)
    #expect(both >= single.min()! && both <= single.max()!)
    // Each group has the exponent of its own.
    #expect(try Self.exponent([(normal, .q4b16)], importance) == single[0])
  }

  @Test func everyThreadAndInstructionSetChoosesAlike() throws {
    let importance = Self.importance(outlier: 300)
    let matrices = [(Matrix.normal(rows: 70, columns: Self.columns), BlockEncoding.q4b16)]
    let first = try Self.exponent(matrices, importance, instructionSet: .scalar)
    for instructionSet in InstructionSet.supported {
      for threads in [1, 2, 7] {
        let other = try Self.exponent(
          matrices, importance, instructionSet: instructionSet,
          pool: WorkerPool(threadCount: threads))
        #expect(other == first, "\(instructionSet), \(threads) threads")
      }
    }
  }

  static let degenerate: [[Float]] = [
    [], [0], [1], [0, 0, 0], [0, 0, 1], [.leastNonzeroMagnitude, 0],
    [.greatestFiniteMagnitude, .leastNonzeroMagnitude, 0],
    [Float](repeating: .greatestFiniteMagnitude, count: 64),
    (0..<256).map { $0 == 7 ? 1e30 : 0 },
    (0..<4096).map { Float(sign: .plus, exponent: $0 % 250 - 125, significand: 1.5) },
  ]

  /// Finite, positive, of geometric mean 1, and in a range that any weight can follow.
  @Test(arguments: degenerate, ColumnScaling.exponents)
  func scalesOfAnyImportance(importance: [Float], exponent: Double) {
    let scales = ColumnScaling.scales(importance: importance, exponent: exponent)
    #expect(scales.columns == importance.count)
    let values = UnsafeBufferPointer(start: scales.pointer, count: scales.columns)
    #expect(values.allSatisfy { (0x1p-20...0x1p20).contains($0) })
    let mean = values.reduce(0) { $0 + PortableMath.log(Double($1)) } / Double(max(1, values.count))
    #expect(abs(mean) < 1e-6)
    if exponent == 0 { #expect(values.allSatisfy { $0 == 1 }) }
    // The more a column is used, the less of it stays in the activation.
    for (a, b) in zip(importance.indices, importance.indices.dropFirst())
    where importance[a] > importance[b] {
      #expect(values[a] <= values[b])
    }
  }

  /// Weights are encoded and exponents found for any importance, without NaN or infinities.
  @Test(arguments: quantizedEncodings) func anyImportanceCanBeUsed(encoding: BlockEncoding) throws {
    let matrix = Matrix.normal(rows: 20, columns: Self.columns)
    for kind in 0..<5 {
      let importance = (0..<Self.columns).map { column -> Float in
        switch kind {
        case 0: 0
        case 1: column == 40 ? 1 : 0
        case 2: column < 48 ? 0 : 1e-38
        case 3: column % 2 == 0 ? 1e30 : 1e-30
        default: .greatestFiniteMagnitude
        }
      }
      let exponent = try Self.exponent([(matrix, encoding)], importance)
      #expect(ColumnScaling.exponents.contains(exponent))
      for exponent in ColumnScaling.exponents {
        let encoded = try matrix.encode(
          as: encoding, importance: importance,
          columnScales: ColumnScaling.scales(importance: importance, exponent: exponent))
        #expect(encoded.matrix.decoded().values.allSatisfy { $0.isFinite })
        #expect(encoded.statistics.normalizedMeanSquaredError < 1, "\(kind), \(exponent)")
        #expect(encoded.statistics.weightedError?.isFinite == true)
      }
    }
  }

  @Test func idleColumnsAreCounted() {
    #expect(ColumnScaling.idleColumnCount(importance: [1, 1, 0, 1e-9]) == 2)
    #expect(ColumnScaling.idleColumnCount(importance: [0, 0]) == 2)
    #expect(ColumnScaling.idleColumnCount(importance: [1, 2]) == 0)
  }

  /// A weight near the end of float32's range, anywhere, rules scales out that would make it infinite.
  @Test(arguments: [(0, 0), (99, 69), (50, 31)]) func weightsThatWouldOverflow(
    row: Int, column: Int
  ) {
    let scales = ColumnScales((0..<70).map { $0 == 3 ? 0.125 : 2 })
    func keepsFinite(_ weight: Float, _ type: ElementType) -> Bool {
      var matrix = Matrix.normal(rows: 100, columns: 70)
      matrix[row, column] = weight
      if type == .f32 {
        return matrix.values.withUnsafeBytes {
          ColumnScaling.keepsFinite(
            MatrixView($0, elementType: type, rows: 100, columns: 70), dividedBy: scales,
            pool: Self.pool)
        }
      }
      return matrix.values.map { UInt16($0.bitPattern >> 16) }.withUnsafeBytes {
        ColumnScaling.keepsFinite(
          MatrixView($0, elementType: type, rows: 100, columns: 70), dividedBy: scales,
          pool: Self.pool)
      }
    }
    for type in [ElementType.f32, .bf16] {
      #expect(keepsFinite(1, type) && keepsFinite(0x1p124, type) && keepsFinite(-0x1p124, type))
      #expect(!keepsFinite(0x1p125, type) && !keepsFinite(-0x1p127, type))
      #expect(!keepsFinite(.nan, type) && !keepsFinite(-.infinity, type))
    }
  }
}
