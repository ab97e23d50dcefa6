/// Chooses one of several options for each of many items, so that together they keep within a budget
/// of bytes and cost as little as possible: the multiple-choice knapsack.
///
/// From the smallest options on, each item goes up its lower convex hull of cost over bytes; the steps of
/// all items are taken in the order of what they save for a byte, which is the optimum wherever it
/// ends exactly at the budget (Lagrange). What is left of the budget then goes to whatever change of one
/// item saves most, again and again. As one item may be a good part of the whole (an embedding), all this
/// is done for each option of the largest item, and the best is kept. The result depends on nothing but
/// the arguments.
struct OptionSelection {
  struct Option: Equatable {
    let byteCount: Int
    let cost: Double
  }

  /// Place of the chosen option of each item.
  private(set) var choices: [Int]
  /// Bytes of the choices.
  private(set) var byteCount: Int
  private let items: [[Option]]
  private let budget: Int
  /// The item whose option is given.
  private let fixed: Int

  /// Nil if even the smallest options are too large.
  ///
  /// - Precondition: every item has an option; costs are finite.
  init?(_ items: [[Option]], budget: Int) {
    let largest = items.indices.max { Self.range(items[$0]) < Self.range(items[$1]) }
    let attempts = (largest.map { items[$0].indices } ?? 0..<0).compactMap { place in
      OptionSelection(items, budget: budget, fixed: (largest!, place))
    }
    guard let best = attempts.min(by: { $0.cost < $1.cost }) else { return nil }
    self = best
  }

  private static func range(_ options: [Option]) -> Int {
    options.map(\.byteCount).max()! - options.map(\.byteCount).min()!
  }

  /// With one option of one item given.
  private init?(_ items: [[Option]], budget: Int, fixed: (item: Int, place: Int)) {
    self.items = items
    self.budget = budget
    self.fixed = fixed.item
    var hulls = items.map(Self.hull)
    hulls[fixed.item] = [fixed.place]
    choices = hulls.map { $0[0] }
    byteCount = zip(items, choices).reduce(0) { $0 + $1.0[$1.1].byteCount }
    if byteCount > budget { return nil }
    climb(hulls)
    fill()
  }

  var cost: Double { zip(items, choices).reduce(0) { $0 + $1.0[$1.1].cost } }

  /// Places of the options on the lower convex hull, from the smallest up to the cheapest.
  static func hull(_ options: [Option]) -> [Int] {
    let sorted = options.indices.sorted {
      let (a, b) = (options[$0], options[$1])
      return (a.byteCount, a.cost, $0) < (b.byteCount, b.cost, $1)
    }
    var hull: [Int] = []
    for place in sorted {
      let option = options[place]
      if let last = hull.last, option.cost >= options[last].cost { continue }
      // Whatever lies above the line from the one before it to the new one goes.
      while hull.count > 1 {
        let (a, b) = (options[hull[hull.count - 2]], options[hull[hull.count - 1]])
        if rate(from: a, to: b) > rate(from: b, to: option) { break }
        hull.removeLast()
      }
      hull.append(place)
    }
    return hull
  }

  /// What a change saves for a byte more.
  private static func rate(from a: Option, to b: Option) -> Double {
    (a.cost - b.cost) / Double(b.byteCount - a.byteCount)
  }

  private mutating func climb(_ hulls: [[Int]]) {
    var steps: [(rate: Double, item: Int, step: Int)] = []
    for (item, hull) in hulls.enumerated() {
      for step in hull.indices.dropFirst() {
        let rate = Self.rate(from: items[item][hull[step - 1]], to: items[item][hull[step]])
        steps.append((rate, item, step))
      }
    }
    steps.sort { $0.rate != $1.rate ? $0.rate > $1.rate : ($0.item, $0.step) < ($1.item, $1.step) }
    var stopped = Array(repeating: false, count: items.count)
    for (_, item, step) in steps where !stopped[item] {
      if !choose(hulls[item][step], of: item) { stopped[item] = true }
    }
  }

  /// Spends what is left.
  private mutating func fill() {
    while true {
      var best: (saved: Double, item: Int, place: Int)?
      for (item, options) in items.enumerated() where item != fixed {
        let current = options[choices[item]]
        for (place, option) in options.enumerated()
        where byteCount - current.byteCount + option.byteCount <= budget {
          let saved = current.cost - option.cost
          if saved > best?.saved ?? 0 { best = (saved, item, place) }
        }
      }
      guard let best else { return }
      _ = choose(best.place, of: best.item)
    }
  }

  /// Changes a choice if that keeps within the budget.
  private mutating func choose(_ place: Int, of item: Int) -> Bool {
    let changed =
      byteCount - items[item][choices[item]].byteCount + items[item][place].byteCount
    if changed > budget { return false }
    choices[item] = place
    byteCount = changed
    return true
  }
}
