public import ModelFiles
public import TensorCore

/// What a recipe makes of every tensor of a model, and what its author should know about that.
public struct RecipeMatching: Sendable {
  /// A tensor of the model.
  public struct Tensor: Sendable {
    public let name: String
    public let role: TensorRole
    /// Decoder layer, from 0; nil for a tensor outside the layers.
    public let layer: Int?
    /// Place of the rule that decided, among the recipe's; nil for one-dimensional tensors.
    public let ruleIndex: Int?
    /// Nil for one-dimensional tensors, which stay plain float32.
    public let encoding: BlockEncoding?
  }

  /// In the order of ``ModelConfiguration/expectedTensors``.
  public let tensors: [Tensor]
  /// Rules without effect and the like, as clauses without a full stop.
  public let warnings: [String]

  /// - Throws: ``RecipeError/unmatched(recipe:tensors:)``,
  ///   ``RecipeError/impossible(recipe:rule:problem:)``.
  public init(_ recipe: Recipe, _ configuration: ModelConfiguration) throws(RecipeError) {
    var tensors: [Tensor] = []
    for (name, _) in configuration.expectedTensors {
      // Every name that a configuration gives has a role.
      guard let role = TensorRole(tensorName: name) else {
        preconditionFailure("\(name) has no role")
      }
      let layer = TensorRole.layer(ofTensor: name)
      let rule =
        role.isMatrix
        ? recipe.ruleIndex(
          forTensor: name, role: role, layer: layer, layerCount: configuration.layerCount) : nil
      tensors.append(
        Tensor(
          name: name, role: role, layer: layer, ruleIndex: rule,
          encoding: rule.map { recipe.rules[$0].encoding }))
    }
    let unmatched = tensors.filter { $0.role.isMatrix && $0.ruleIndex == nil }
    guard unmatched.isEmpty else {
      throw .unmatched(recipe: recipe.name, tensors: unmatched.map(\.name))
    }
    self.tensors = tensors
    var warnings: [String] = []
    // Nobody can change the rules of a preset.
    for index in 0..<(recipe.isPreset ? 0 : recipe.ownRuleCount) {
      if let warning = try Self.check(index, of: recipe, tensors, configuration) {
        warnings.append(warning)
      }
    }
    self.warnings = warnings + Self.divided(tensors)
  }

  /// What is remarkable about one rule; nil if it does something.
  private static func check(
    _ index: Int, of recipe: Recipe, _ tensors: [Tensor], _ configuration: ModelConfiguration
  ) throws(RecipeError) -> String? {
    let rule = recipe.rules[index]
    let title = "rule \(index + 1) \(rule.yaml)"
    let matched = tensors.filter {
      rule.matches(
        tensor: $0.name, role: $0.role, layer: $0.layer, layerCount: configuration.layerCount)
    }
    if matched.isEmpty {
      let reason =
        if rule.roles == [.output], configuration.tiedEmbeddings {
          ": its embedding is also its output projection"
        } else if !rule.roles.isEmpty, configuration.hasFusedMLP,
          rule.roles.allSatisfy({ $0 == .gate || $0 == .up })
        {
          ": its gate and up projections are one matrix, of role gate-up"
        } else {
          ""
        }
      return "\(title) matches no tensor of this model\(reason)"
    }
    if matched.allSatisfy({ !$0.role.isMatrix }) {
      if rule.encoding == .f32 { return nil }
      throw .impossible(
        recipe: recipe.name, rule: title,
        problem: "matches only one-dimensional tensors, which stay f32")
    }
    if !matched.contains(where: { $0.ruleIndex == index }) {
      return "\(title) decides nothing: rules before it match all its tensors"
    }
    if let last = rule.layers?.ranges.last?.upperBound, last >= configuration.layerCount {
      return "\(title) goes beyond the model's last layer, \(configuration.layerCount - 1)"
    }
    return nil
  }

  /// Where matrices that read one input differ in the size of their blocks.
  private static func divided(_ tensors: [Tensor]) -> [String] {
    let layers = Dictionary(grouping: tensors.filter { $0.layer != nil && $0.role.isMatrix }) {
      $0.layer!
    }
    return TensorRole.sharingInput.compactMap { roles in
      let divided = layers.filter { _, tensors in
        let sizes = tensors.filter { roles.contains($0.role) }.map { $0.encoding?.blockSize }
        return Set(sizes).count > 1
      }
      guard !divided.isEmpty else { return nil }
      return """
        \(roles.map(\.rawValue).joined(separator: ", ")) differ in block size in \(divided.count) \
        layers: what they read is quantized more than once there, and scaled less well
        """
    }
  }
}
