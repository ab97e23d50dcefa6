import TensorCore
import TestSupport
import Testing

/// Which experts a token goes to.
@Suite struct RoutingTests {
  private static func route(_ logits: [Float], _ used: Int) -> (experts: [Int], weights: [Float]) {
    var experts = [Int](repeating: -1, count: used)
    var weights = [Float](repeating: .nan, count: used)
    Reference.route(
      logits, count: logits.count, used: used, chosen: &experts, weights: &weights)
    return (experts, weights)
  }

  @Test func equalLogitsGoToTheFirst() {
    #expect(Self.route([1, 3, 3, 2, 3], 2).experts == [1, 2])
    #expect(Self.route([1, 3, 3, 2, 3], 4).experts == [1, 2, 4, 3])
    #expect(Self.route([0, -0.0, 0], 2).experts == [0, 1])
    #expect(Self.route([-0.0, 0, -1], 2) == ([0, 1], [0.5, 0.5]))
    #expect(Self.route([7, 7, 7, 7], 4) == ([0, 1, 2, 3], [0.25, 0.25, 0.25, 0.25]))
    #expect(Self.route([-3], 1) == ([0], [1]))
  }

  @Test func weightsAreASoftmaxOverTheChosen() {
    let (experts, weights) = Self.route([0.5, 9, -4, 8.25], 3)
    #expect(experts == [1, 3, 0])
    let values: [Float] = [1, Reference.exp(8.25 - 9), Reference.exp(0.5 - 9)]
    let sum = values[0] + values[1] + values[2]
    #expect(weights == values.map { $0 / sum })
  }

  /// Damaged weights give logits that are no numbers: the choice is then as it comes, but safe.
  @Test func logitsThatAreNotNumbers() {
    for logits: [Float] in [
      [.nan, .nan, .nan], [1, .nan, 2], [.infinity, .infinity, 0], [-.infinity, -.infinity, .nan],
    ] {
      let (experts, _) = Self.route(logits, 2)
      #expect(Set(experts).count == 2 && experts.allSatisfy { (0..<3).contains($0) })
    }
  }
}
