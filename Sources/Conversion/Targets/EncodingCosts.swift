import ModelFiles
public import TensorCore

/// What each candidate encoding of each matrix of a model costs in fidelity, and the recipes that follow
/// for a given size.
public struct EncodingCosts: Sendable {
  /// The encodings that are chosen from.
  public static let candidates: [BlockEncoding] = [.q4b32, .q4b16, .q8b32, .q8b16]

  /// A matrix of the model.
  struct Matrix: Sendable {
    let entry: ConversionPlan.Entry
    let form: MatrixForm
    /// Of each of ``candidates``; comparable between all matrices of the model.
    let costs: [BlockEncoding: Double]

    /// - Precondition: `entry` is a matrix.
    init(_ entry: ConversionPlan.Entry, costs: [BlockEncoding: Double]) {
      self.entry = entry
      form = MatrixForm(shape: entry.tensor.shape)!
      self.costs = costs
    }
  }

  /// Matrices that read the same input, so that they share the size of their blocks.
  let groups: [[Matrix]]
  /// Of the whole model; its recipe does not matter.
  let plan: ConversionPlan
  let layerCount: Int
  /// Column scales that a slab will have at most, of four bytes each.
  let columnScaleCount: Int
  /// Bytes of a slab of profile `run` by a recipe, at most.
  let fileByteCount: @Sendable (Recipe) -> Int

  /// One encoding for each matrix of a group.
  struct Assignment {
    let encodings: [BlockEncoding]
    let cost: Double
  }

  /// The assignments of a group that may be optimal: for either block size, those in which one matrix
  /// after the other goes from 4 to 8 bits, in the order of what that saves for a byte.
  static func assignments(_ group: [Matrix]) -> [Assignment] {
    [(BlockEncoding.q4b32, BlockEncoding.q8b32), (.q4b16, .q8b16)].flatMap { small, large in
      func saving(_ matrix: Matrix) -> Double {
        let bytes = matrix.form.byteCount(in: large) - matrix.form.byteCount(in: small)
        return (matrix.costs[small]! - matrix.costs[large]!) / Double(bytes)
      }
      let savings = group.map(saving)
      let order = group.indices.sorted {
        savings[$0] != savings[$1] ? savings[$0] > savings[$1] : $0 < $1
      }
      return (0...group.count).map { count in
        let upgraded = Set(order.prefix(count))
        let encodings = group.indices.map { upgraded.contains($0) ? large : small }
        let cost = zip(group, encodings).reduce(0) { $0 + $1.0.costs[$1.1]! }
        return Assignment(encodings: encodings, cost: cost)
      }
    }
  }

  /// Chooses encodings that cost least within a size.
  ///
  /// - Throws: ``TargetError``, with what is possible.
  public func choice(for target: SizeTarget) throws(TargetError) -> TargetChoice {
    if groups.isEmpty { throw .noMatrices }
    let sizes = TargetSizes(self, target)
    let assignments = groups.map(Self.assignments)
    let items = zip(groups, assignments).map { group, assignments in
      assignments.map { assignment in
        OptionSelection.Option(
          byteCount: sizes.byteCount(group, assignment.encodings), cost: assignment.cost)
      }
    }
    func choice(_ places: [Int]) -> TargetChoice {
      var encodings: [String: BlockEncoding] = [:]
      for (group, (assignments, place)) in zip(groups, zip(assignments, places)) {
        for (matrix, encoding) in zip(group, assignments[place].encodings) {
          encodings[matrix.entry.tensor.name] = encoding
        }
      }
      return TargetChoice(target: target, costs: self, encodings: encodings)
    }
    func extreme(_ isBetter: (Int, Int) -> Bool) -> TargetChoice {
      choice(
        items.map { options in
          options.indices.min { isBetter(options[$0].byteCount, options[$1].byteCount) }!
        })
    }
    let smallest = extreme(<)
    let possible = sizes.byteCount(smallest)...sizes.byteCount(extreme(>))
    guard possible.contains(sizes.limit) else { throw sizes.error(possible) }
    // Sums of matrices do not say all: the index and the recipe that is recorded depend on the choice.
    var best = smallest
    var budget =
      items.reduce(sizes.limit - possible.lowerBound) { $0 + $1.map(\.byteCount).min()! }
    for _ in 0..<8 {
      guard let selection = OptionSelection(items, budget: budget) else { break }
      let found = choice(selection.choices)
      let left = sizes.limit - sizes.byteCount(found)
      if left >= 0, found.damage <= best.damage { best = found }
      let next = selection.byteCount + left
      if left >= 0, next < budget + 1024 { break }  // nothing more fits there
      budget = next
    }
    return best
  }
}
