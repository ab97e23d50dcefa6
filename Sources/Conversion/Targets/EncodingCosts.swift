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
  /// How large a slab of profile `run` is by a recipe that names every matrix; at most, where matrices
  /// that read one input differ.
  let size: @Sendable (Recipe) -> SlabSize

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
    let largest = extreme(>)
    guard sizes.byteCount(smallest) <= sizes.limit, sizes.limit <= sizes.byteCount(largest) else {
      throw sizes.error(smallest, largest)
    }
    // Sums of matrices do not say all: the index and the recipe that is recorded depend on the choice.
    var best = smallest
    var budget =
      items.reduce(sizes.limit - sizes.byteCount(smallest)) { $0 + $1.map(\.byteCount).min()! }
    for _ in 0..<8 {
      guard let selection = OptionSelection(items, budget: budget) else { break }
      let found = choice(selection.choices)
      let left = sizes.limit - sizes.byteCount(found)
      if left >= 0, found.damage <= best.damage { best = found }
      let next = selection.byteCount + left
      if left >= 0, next < budget + 1024 { break }  // nothing more fits there
      budget = next
    }
    // A preset needs no room for its rules.
    for preset in Recipe.presets {
      guard let encodings = encodings(of: preset) else { continue }
      let choice = TargetChoice(target: target, costs: self, encodings: encodings)
      if choice.damage <= best.damage, sizes.byteCount(choice) <= sizes.limit { best = choice }
    }
    return best
  }

  /// What a recipe makes of every matrix that was measured; nil if it uses other encodings.
  func encodings(of recipe: Recipe) -> [String: BlockEncoding]? {
    var result: [String: BlockEncoding] = [:]
    for matrix in groups.joined() {
      let entry = matrix.entry
      let encoding = recipe.encoding(
        ofTensor: entry.tensor.name, role: entry.role, layer: entry.layer, layerCount: layerCount)
      guard let encoding, matrix.costs[encoding] != nil else { return nil }
      result[entry.tensor.name] = encoding
    }
    return result
  }
}
