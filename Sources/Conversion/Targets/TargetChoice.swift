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
    Double(TargetSizes(costs, target).logicalByteCount(encodings)) * 8
      / Double(costs.plan.weightCount)
  }

  /// Predicted damage, in a unit of its own.
  var damage: Double { damage(encodings) }

  /// Predicted damage relative to that of a recipe on the same model; below 1 is better. Nil if the recipe
  /// uses encodings that have not been measured, or measures none.
  public func damage(relativeTo recipe: Recipe) -> Double? {
    var others: [String: BlockEncoding] = [:]
    for matrix in costs.groups.joined() {
      let entry = matrix.entry
      let encoding = recipe.encoding(
        ofTensor: entry.tensor.name, role: entry.role, layer: entry.layer,
        layerCount: costs.layerCount)
      guard let encoding, matrix.costs[encoding] != nil else { return nil }
      others[entry.tensor.name] = encoding
    }
    let reference = damage(others)
    return reference > 0 ? damage(encodings) / reference : nil
  }

  private func damage(_ encodings: [String: BlockEncoding]) -> Double {
    costs.groups.joined().reduce(0) { $0 + $1.costs[encodings[$1.entry.tensor.name]!]! }
  }

  /// A recipe that says the same in few rules: for each role what most of its weights become, after the
  /// layers that are exceptions.
  public func recipe(named name: String) -> Recipe {
    var rules = Recipe.unquantizedRoles(in: costs.plan)
    let rows = rows
    for role in TensorRole.allCases {
      let own = rows.filter { $0.role == role }
      guard let usual = own.max(by: { $0.weightCount < $1.weightCount })?.encoding else { continue }
      for row in own where row.encoding != usual {
        rules.append(Recipe.Rule(roles: [role], layers: row.layers, encoding: row.encoding))
      }
      rules.append(Recipe.Rule(roles: [role], encoding: usual))
    }
    return Recipe(name: name, rules: rules)
  }
}
