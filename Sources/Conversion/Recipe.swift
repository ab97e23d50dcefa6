public import ModelFiles
public import TensorCore

/// Which encoding each matrix gets: rules in order, of which the first that matches decides.
/// One-dimensional tensors stay float32 in every recipe. `formats/recipes.md` describes the files that
/// hold recipes.
public struct Recipe: Sendable, Hashable, CustomStringConvertible {
  /// Of a preset its own, otherwise what its author calls it. A slab records it.
  public let name: String
  /// The preset whose rules follow this recipe's own.
  public let base: String?
  /// The recipe's own rules, then those of its base. Asked in order; the first that matches a tensor
  /// decides.
  public let rules: [Rule]
  /// How many of ``rules`` are the recipe's own.
  public let ownRuleCount: Int

  /// - Parameters:
  ///   - rules: asked in order.
  ///   - base: a recipe whose rules come after them.
  public init(name: String, rules: [Rule], base: Recipe? = nil) {
    self.name = name
    self.base = base?.name
    self.rules = rules + (base?.rules ?? [])
    ownRuleCount = rules.count
  }

  public var description: String { name }

  /// Place in ``rules`` of the one that decides about a matrix; nil if none matches.
  ///
  /// - Parameters:
  ///   - name: the published name.
  ///   - layer: nil for a tensor outside the decoder layers.
  ///   - layerCount: decoder layers of the model.
  public func ruleIndex(
    forTensor name: String, role: TensorRole, layer: Int?, layerCount: Int
  ) -> Int? {
    rules.firstIndex {
      $0.matches(tensor: name, role: role, layer: layer, layerCount: layerCount)
    }
  }

  /// The encoding of a tensor; nil for one-dimensional ones, which stay plain float32, and for a
  /// matrix that no rule matches, which a ``ConversionPlan`` refuses.
  public func encoding(
    ofTensor name: String, role: TensorRole, layer: Int?, layerCount: Int
  ) -> BlockEncoding? {
    guard role.isMatrix else { return nil }
    return ruleIndex(forTensor: name, role: role, layer: layer, layerCount: layerCount).map {
      rules[$0].encoding
    }
  }
}
