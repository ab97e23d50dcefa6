public import ModelFiles
public import TensorCore

/// The encodings that were chosen for a size.
public struct TargetChoice: Sendable {
  public let target: SizeTarget
  private let costs: EncodingCosts
  /// Of every matrix, by its published name.
  public let encodings: [String: BlockEncoding]

  init(target: SizeTarget, costs: EncodingCosts, encodings: [String: BlockEncoding]) {
    self.target = target
    self.costs = costs
    self.encodings = encodings
  }

  /// Matrices of one role that got the same encoding.
  public struct Row: Sendable {
    public let role: TensorRole
    public let encoding: BlockEncoding
    /// Their decoder layers; nil for tensors outside the layers.
    public let layers: Recipe.LayerSelection?
    public let tensorCount: Int
    public let weightCount: Int
    /// Their share of the predicted damage of the whole model.
    public let damageShare: Double
  }

  /// By role, then by encoding.
  public var rows: [Row] {
    let matrices = costs.groups.joined()
    let total = damage(encodings)
    return TensorRole.allCases.flatMap { role in
      EncodingCosts.candidates.compactMap { encoding in
        let some = matrices.filter {
          $0.entry.role == role && encodings[$0.entry.tensor.name] == encoding
        }
        if some.isEmpty { return nil }
        let layers = some.compactMap(\.entry.layer).map { $0...$0 }
        return Row(
          role: role, encoding: encoding,
          layers: layers.isEmpty ? nil : Recipe.LayerSelection(ranges: layers),
          tensorCount: some.count,
          weightCount: some.reduce(0) { $0 + $1.entry.tensor.elementCount },
          damageShare: total > 0 ? some.reduce(0) { $0 + $1.costs[encoding]! } / total : 0)
      }
    }
  }

  /// Logical bits for each weight of the model.
  public var bitsPerWeight: Double {
    Double(costs.size(recipe).logicalByteCount) * 8 / Double(costs.plan.weightCount)
  }

  /// Predicted damage, in a unit of its own.
  var damage: Double { damage(encodings) }

  /// Predicted damage relative to that of a recipe on the same model; below 1 is better. Nil if the recipe
  /// uses encodings that have not been measured, or measures none.
  public func damage(relativeTo recipe: Recipe) -> Double? {
    guard let others = costs.encodings(of: recipe) else { return nil }
    let reference = damage(others)
    return reference > 0 ? damage(encodings) / reference : nil
  }

  private func damage(_ encodings: [String: BlockEncoding]) -> Double {
    costs.groups.joined().reduce(0) { $0 + $1.costs[encodings[$1.entry.tensor.name]!]! }
  }

  /// The preset that says the same, where there is one; otherwise a recipe in few rules: the layers of a
  /// role that are exceptions, roles that are, and what most weights become.
  public var recipe: Recipe {
    if let preset = Recipe.presets.first(where: { costs.encodings(of: $0) == encodings }) {
      return preset
    }
    var rules = Recipe.unquantizedRoles(in: costs.plan)
    let rows = rows
    let usual = Self.usual(rows)
    for role in TensorRole.allCases {
      let own = rows.filter { $0.role == role }
      if own.isEmpty { continue }
      let usualOfRole = Self.usual(own)
      for row in own where row.encoding != usualOfRole {
        rules.append(Recipe.Rule(roles: [role], layers: row.layers, encoding: row.encoding))
      }
      if usualOfRole != usual { rules.append(Recipe.Rule(roles: [role], encoding: usualOfRole)) }
    }
    return Recipe(name: target.name, rules: rules + [Recipe.Rule(encoding: usual)])
  }

  /// What most weights become; of two the smaller.
  private static func usual(_ rows: [Row]) -> BlockEncoding {
    func weightCount(_ encoding: BlockEncoding) -> Int {
      rows.reduce(0) { $0 + ($1.encoding == encoding ? $1.weightCount : 0) }
    }
    return EncodingCosts.candidates.max { weightCount($0) < weightCount($1) }!
  }
}
