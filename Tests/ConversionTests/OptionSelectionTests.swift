import TestSupport
import Testing

@testable import Conversion

@Suite struct OptionSelectionTests {
  private typealias Option = OptionSelection.Option

  @Test func hullsByHand() {
    // 2 lies above the line from 1 to 3, 4 costs more than 3, 0 is larger than 1 at the same cost.
    let options = [
      Option(byteCount: 11, cost: 8), Option(byteCount: 10, cost: 8),
      Option(byteCount: 15, cost: 7),
      Option(byteCount: 20, cost: 2), Option(byteCount: 30, cost: 3),
      Option(byteCount: 40, cost: 1),
    ]
    #expect(OptionSelection.hull(options) == [1, 3, 5])
    #expect(OptionSelection.hull([options[0]]) == [0])
  }

  @Test func spendsWhatSavesMost() throws {
    let items = [
      [Option(byteCount: 1, cost: 10), Option(byteCount: 2, cost: 1)],
      [Option(byteCount: 1, cost: 10), Option(byteCount: 2, cost: 5)],
    ]
    #expect(try #require(OptionSelection(items, budget: 2)).choices == [0, 0])
    #expect(try #require(OptionSelection(items, budget: 3)).choices == [1, 0])
    #expect(try #require(OptionSelection(items, budget: 99)).choices == [1, 1])
    #expect(OptionSelection(items, budget: 1) == nil)
  }

  /// The best step does not fit; what is left goes to a worse one that does.
  @Test func fillsWhatIsLeft() throws {
    let items = [
      [Option(byteCount: 1, cost: 100), Option(byteCount: 100, cost: 0)],
      [Option(byteCount: 1, cost: 1), Option(byteCount: 5, cost: 0.9)],
    ]
    let selection = try #require(OptionSelection(items, budget: 50))
    #expect(selection.choices == [0, 1] && selection.byteCount == 6 && selection.cost == 100.9)
  }

  /// Beside all combinations: never above the budget, and off by less than one item's worth.
  @Test func isNearTheOptimum() throws {
    var random = SplitMix64(seed: 7)
    var exact = 0
    for _ in 0..<200 {
      let items = (0..<5).map { _ in
        (0..<4).map { _ in
          Option(
            byteCount: .random(in: 1...50, using: &random),
            cost: .random(in: 0...1, using: &random))
        }
      }
      let smallest = items.reduce(0) { $0 + $1.map(\.byteCount).min()! }
      let budget = smallest + .random(in: 0...100, using: &random)
      let selection = try #require(OptionSelection(items, budget: budget))
      #expect(selection.byteCount <= budget)
      var best = Double.infinity
      for code in 0..<1024 {
        let chosen = items.enumerated().map { $1[code >> (2 * $0) & 3] }
        if chosen.reduce(0, { $0 + $1.byteCount }) <= budget {
          best = min(best, chosen.reduce(0) { $0 + $1.cost })
        }
      }
      #expect(selection.cost <= best + 1)
      exact += selection.cost < best + 1e-9 ? 1 : 0
    }
    #expect(exact > 100)
  }
}
