import TestSupport
import Testing

@testable import Inference

@Suite struct SamplerTests {
  private func sample(
    _ logits: [Float], _ draw: Double, temperature: Double = 1, topK: Int = 0, topP: Double = 1,
    minP: Double = 0
  ) throws -> Int32 {
    var options = GenerationOptions()
    options.temperature = temperature
    options.topK = topK
    options.topP = topP
    options.minP = minP
    return try logits.withUnsafeBufferPointer { try Sampler(options).sample($0, draw: draw) }
  }

  /// The ids that some draw reaches.
  private func reachable(
    _ logits: [Float], temperature: Double = 1, topK: Int = 0, topP: Double = 1, minP: Double = 0
  ) throws -> Set<Int32> {
    Set(
      try (0..<2000).map {
        try sample(
          logits, Double($0) / 2000, temperature: temperature, topK: topK, topP: topP, minP: minP)
      })
  }

  /// Probabilities 4/8, 1/8, 2/8, 1/8.
  private let quarters: [Float] = [2 * .log2, 0, .log2, 0]

  @Test func greedyTakesTheLowestIDOfEquals() throws {
    #expect(try sample([1, 3, 2, 3], 0.9, temperature: 0) == 1)
    #expect(try sample([-.infinity, -5, -.infinity], 0.9, temperature: 0) == 1)
    #expect(throws: InferenceError.noCandidates) {
      try sample([-.infinity, -.infinity], 0.9, temperature: 0)
    }
  }

  @Test(arguments: [
    (0, 0), (0.499, 0), (0.501, 2), (0.749, 2), (0.751, 1), (0.874, 1), (0.876, 3), (0.9999, 3),
  ])
  func drawsAlongTheOrderOfCandidates(draw: Double, expected: Int32) throws {
    #expect(try sample(quarters, draw) == expected)
  }

  @Test func temperatureDividesLogits() throws {
    // At temperature 1/2: 16/22, 1/22, 4/22, 1/22.
    #expect(try sample(quarters, 15.9 / 22, temperature: 0.5) == 0)
    #expect(try sample(quarters, 16.1 / 22, temperature: 0.5) == 2)
    #expect(try sample(quarters, 20.1 / 22, temperature: 0.5) == 1)
    #expect(try sample(quarters, 0.9999, temperature: 1e-300) == 0)
  }

  @Test func topKKeepsTheFirstOfEquals() throws {
    #expect(try reachable(quarters, topK: 1) == [0])
    #expect(try reachable(quarters, topK: 3) == [0, 2, 1])
    #expect(try reachable(quarters, topK: -1) == [0, 1, 2, 3])
    #expect(try reachable(quarters, topK: 99) == [0, 1, 2, 3])
    // The rest is what is drawn from: 4/6 and 2/6.
    #expect(try sample(quarters, 0.66, topK: 2) == 0)
    #expect(try sample(quarters, 0.67, topK: 2) == 2)
  }

  @Test func topPKeepsTheFewestThatReachIt() throws {
    #expect(try reachable(quarters, topP: 0.49) == [0])
    #expect(try reachable(quarters, topP: 0.51) == [0, 2])
    #expect(try reachable(quarters, topP: 0.76) == [0, 1, 2])
    #expect(try reachable(quarters, topP: 0.0001) == [0])
    // After top-k: shares 4/6 and 2/6, so that 0.6 is reached by the first.
    #expect(try reachable(quarters, topK: 2, topP: 0.6) == [0])
    #expect(try reachable(quarters, topK: 2, topP: 0.7) == [0, 2])
  }

  @Test func minPIsRelativeToTheBest() throws {
    #expect(try reachable(quarters, minP: 0.24) == [0, 1, 2, 3])
    #expect(try reachable(quarters, minP: 0.26) == [0, 2])
    #expect(try reachable(quarters, minP: 1) == [0])
    // It looks at probabilities after temperature: 1/16 and 4/16 of the best.
    #expect(try reachable(quarters, temperature: 0.5, minP: 0.24) == [0, 2])
  }

  @Test func maskedTokensAreNeverDrawn() throws {
    #expect(try reachable([0, -.infinity, 0]) == [0, 2])
    #expect(throws: InferenceError.noCandidates) { try sample([-.infinity], 0) }
  }

  /// The bounded selection of top-k among many, and an ordinary sort, are the same.
  @Test(arguments: 0..<20) func selectionAgreesWithSorting(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    // Few different values, zeros of both signs among them: many ties.
    let logits: [Float] = (0..<1000).map { _ in
      [-2, -1, -0.0, 0.0, 1, 2].randomElement(using: &random)!
    }
    let k = Int.random(in: 1...60, using: &random)
    let order = logits.indices.sorted {
      logits[$0] != logits[$1] ? logits[$0] > logits[$1] : $0 < $1
    }
    #expect(
      try reachable(logits, temperature: 1e6, topK: k) == Set(order.prefix(k).map { Int32($0) }))
  }

  /// Every candidate stands where an ordinary sort puts it: weights that are nearly the same show where.
  @Test(arguments: 0..<10) func allAreInTheOrderOfSorting(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    let logits: [Float] = (0..<1000).map { index in
      switch index % 4 {
      case 0: Float.random(in: -1000...1000, using: &random)
      case 1: Float.random(in: -1e-30...1e-30, using: &random)
      default: [-3, -0.0, 0.0, 1, 1.000_000_1].randomElement(using: &random)!
      }
    }
    let order = logits.indices.sorted {
      logits[$0] != logits[$1] ? logits[$0] > logits[$1] : $0 < $1
    }
    let drawn = try logits.indices.map {
      try sample(logits, (Double($0) + 0.5) / 1000, temperature: 1e9)
    }
    #expect(drawn == order.map { Int32($0) })
  }

  /// Many draws have the frequencies of the distribution (five standard deviations).
  @Test func frequenciesFollowProbabilities() throws {
    var counts = [0, 0, 0, 0]
    let total = 20_000
    for position in 0..<total {
      let draw = Philox.draw(seed: 7, choice: 0, position: UInt64(position))
      counts[Int(try sample(quarters, draw))] += 1
    }
    for (count, p) in zip(counts, [0.5, 0.125, 0.25, 0.125]) {
      let deviation = (Double(total) * p * (1 - p)).squareRoot()
      #expect(abs(Double(count) - Double(total) * p) < 5 * deviation)
    }
  }
}

extension Float {
  fileprivate static let log2: Float = 0.693_147_2
}
