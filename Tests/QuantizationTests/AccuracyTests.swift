import TensorCore
import TestSupport
import Testing

@testable import Quantization

@Suite struct AccuracyTests {
  /// The largest normalized error of independent normal weights.
  static let bounds: [(BlockEncoding, Double)] = [
    (.q4b16, 0.00410), (.q4b32, 0.00545), (.q8b16, 2.6e-5), (.q8b32, 3.0e-5),
  ]

  @Test(arguments: bounds)
  func normalWeights(encoding: BlockEncoding, bound: Double) throws {
    let matrix = Matrix.normal(rows: 512, columns: 4096)
    let statistics = try matrix.encode(as: encoding).statistics
    #expect(statistics.normalizedMeanSquaredError <= bound)
    #expect(statistics.normalizedMeanSquaredError > bound / 2, "too good to be true")
  }

  /// Outlier columns cost the ordinary blocks of their rows little.
  @Test(arguments: [(.q4b16, 0.0047), (.q8b32, 3.5e-5)] as [(BlockEncoding, Double)])
  func outlierColumns(encoding: BlockEncoding, bound: Double) throws {
    let outliers = [17, 600, 1111, 2040]
    var matrix = Matrix.normal(rows: 512, columns: 2048)
    for row in 0..<matrix.rows {
      for column in outliers { matrix[row, column] *= 40 }
    }
    let blockSize = encoding.blockSize!
    let blocks = Set(outliers.map { $0 / blockSize })
    let error = normalizedError(matrix, try matrix.encode(as: encoding).matrix.decoded()) {
      !blocks.contains($0 / blockSize)
    }
    #expect(error <= bound)
  }

  @Test(arguments: quantizedEncodings)
  func importanceLowersTheWeightedError(encoding: BlockEncoding) throws {
    let matrix = Matrix.normal(rows: 64, columns: 512)
    var random = SplitMix64(seed: 3)
    let importance = (0..<512).map { _ in
      let value = random.normal()
      return value * value * value * value
    }
    let plain = try matrix.encode(as: encoding)
    let weighted = try matrix.encode(as: encoding, importance: importance)
    let plainError = normalizedError(matrix, plain.matrix.decoded(), weights: importance)
    let weightedError = normalizedError(matrix, weighted.matrix.decoded(), weights: importance)
    #expect(weightedError < 0.85 * plainError)
    #expect(
      weighted.statistics.normalizedMeanSquaredError > plain.statistics.normalizedMeanSquaredError)
  }

  /// Weights in columns of very different sizes are as good as equal ones once the column scales
  /// take the sizes away.
  @Test(arguments: bounds)
  func columnScales(encoding: BlockEncoding, bound: Double) throws {
    let scales = ColumnScales((0..<1024).map { Float($0 % 5 + 1) * ($0 % 2 == 0 ? 0.01 : 3) })
    let normal = Matrix.normal(rows: 128, columns: 1024)
    let matrix = Matrix(rows: 128, columns: 1024) { normal[$0, $1] * scales.pointer[$1] }
    let encoded = try matrix.encode(as: encoding, columnScales: scales)
    #expect(encoded.matrix.columnScales === scales)
    // Large columns get the precision, so what small ones lose may double the bound.
    let decoded = encoded.matrix.decoded()
    let inverse = (0..<1024).map { 1 / scales.pointer[$0] / scales.pointer[$0] }
    #expect(normalizedError(matrix, decoded, weights: inverse) <= 2 * bound)
    #expect(encoded.statistics.normalizedMeanSquaredError <= bound)
    let plain = try matrix.encode(as: encoding).statistics
    #expect(
      encoded.statistics.normalizedMeanSquaredError < plain.normalizedMeanSquaredError)
  }

  /// Heavy tails: the fitted codebook beats the one that fitting begins with.
  @Test func codebookIsFitted() throws {
    let normal = Matrix.normal(rows: 256, columns: 512)
    let matrix = Matrix(rows: 256, columns: 512) { row, column in
      let value = normal[row, column]
      return value * value.magnitude * value.magnitude
    }
    let encoded = try matrix.encode(as: .q4b16)
    let codebook = encoded.matrix.codebook.map { Int($0) }
    #expect(codebook == codebook.sorted())
    #expect(codebook.map(\.magnitude).max() == 127)
    #expect(codebook.map { Float($0) } != Codebook(blockSize: 16).entries)
    #expect(encoded.statistics.normalizedMeanSquaredError < 0.004)
  }

  /// In the same sums as the plain error, with the importance as it was given, where nothing is floored.
  @Test(arguments: BlockEncoding.allCases.filter(\.isQuantized), [false, true])
  func weightedErrorsAreThoseOfTheDecodedValues(encoding: BlockEncoding, scaled: Bool) throws {
    let matrix = ExactnessTests.matrix(rows: 19, columns: 70)
    let importance = (0..<70).map { 0.25 + Float($0 % 7) }
    let encoded = try matrix.encode(
      as: encoding, importance: importance,
      columnScales: scaled ? ExactnessTests.factors(70).scales : nil)
    var (error, original) = (0.0, 0.0)
    for row in 0..<matrix.rows {
      for column in 0..<matrix.columns {
        let w = Double(matrix[row, column])
        let v = Double(Reference.dequantize(encoded.matrix, row: row, column: column))
        error += Double(importance[column]) * (w - v) * (w - v)
        original += Double(importance[column]) * w * w
      }
    }
    let weighted = try #require(encoded.statistics.weightedError)
    #expect(abs(weighted / (error / original) - 1) < 1e-5)
    #expect(try matrix.encode(as: encoding).statistics.weightedError == nil)
  }

  @Test(arguments: BlockEncoding.allCases)
  func statisticsAreThoseOfTheDecodedValues(encoding: BlockEncoding) throws {
    let matrix = ExactnessTests.matrix(rows: 19, columns: 70)
    let scales = encoding.isQuantized ? ExactnessTests.factors(70).scales : nil
    let encoded = try matrix.encode(as: encoding, columnScales: scales)
    var (error, original, product, decodedSquares, largest) = (0.0, 0.0, 0.0, 0.0, 0.0)
    for row in 0..<matrix.rows {
      var sums = (0.0, 0.0, 0.0, 0.0)
      for column in 0..<matrix.columns {
        let w = Double(matrix[row, column])
        let v = Double(Reference.dequantize(encoded.matrix, row: row, column: column))
        sums.0 += (w - v) * (w - v)
        sums.1 += w * w
        sums.2 += w * v
        sums.3 += v * v
        largest = max(largest, abs(w - v))
      }
      error += sums.0
      original += sums.1
      product += sums.2
      decodedSquares += sums.3
    }
    #expect(
      encoded.statistics
        == ErrorStatistics(
          normalizedMeanSquaredError: error / original, maximumAbsoluteError: largest,
          cosineSimilarity: product / (original * decodedSquares).squareRoot()))
  }
}
