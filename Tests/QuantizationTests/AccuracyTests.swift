import Foundation
import TensorCore
import TestSupport
import Testing

@testable import Quantization

@Suite struct AccuracyTests {
  static let bounds: [(BlockEncoding, Double)] = [
    (.q4b16, 0.00410), (.q4b32, 0.00545), (.q8b16, 2.6e-5), (.q8b32, 3.0e-5),
  ]

  @Test(arguments: bounds)
  func normalWeights(encoding: BlockEncoding, bound: Double) throws {
    let matrix = Matrix.normal(rows: 1024, columns: 4096)
    let clock = ContinuousClock()
    let start = clock.now
    let statistics = try matrix.encode(as: encoding).statistics
    print(encoding, statistics, clock.now - start)
    #expect(statistics.normalizedMeanSquaredError <= bound)
  }
}
