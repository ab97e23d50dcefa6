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
    let geometry: PanelGeometry
    /// Of each of ``candidates``; comparable between all matrices of the model.
    let costs: [BlockEncoding: Double]
  }

  /// Matrices that read the same input, so that they share the size of their blocks.
  let groups: [[Matrix]]
  /// Of the whole model; its recipe does not matter.
  let plan: ConversionPlan
  let layerCount: Int
  /// Column scales that a slab will have at most, of four bytes each.
  let columnScaleCount: Int

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
        let bytes = matrix.geometry.byteCount(in: large) - matrix.geometry.byteCount(in: small)
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
    let sizes = TargetSizes(self)
    let assignments = groups.map(Self.assignments)
    let items = zip(groups, assignments).map { group, assignments in
      assignments.map { assignment in
        OptionSelection.Option(
          byteCount: sizes.byteCount(group, assignment.encodings, for: target),
          cost: assignment.cost)
      }
    }
    let smallest = items.reduce(0) { $0 + $1.map(\.byteCount).min()! }
    let largest = items.reduce(0) { $0 + $1.map(\.byteCount).max()! }
    let budget = sizes.budget(for: target)
    guard smallest...largest ~= budget || budget == largest,
      let selection = OptionSelection(items, budget: budget)
    else { throw sizes.error(target, smallest: smallest, largest: largest) }
    var encodings: [String: BlockEncoding] = [:]
    for (group, (assignments, place)) in zip(groups, zip(assignments, selection.choices)) {
      for (matrix, encoding) in zip(group, assignments[place].encodings) {
        encodings[matrix.entry.tensor.name] = encoding
      }
    }
    return TargetChoice(target: target, costs: self, encodings: encodings)
  }
}
