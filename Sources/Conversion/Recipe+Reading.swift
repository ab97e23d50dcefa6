import JSON
import Yams

extension Recipe {
  /// Longest file that is read, and longest text that a slab records.
  public static let maximumByteCount = 65535
  /// Most rules of a file, and most patterns of names in all its rules.
  public static let maximumRuleCount = 1000
  /// What a recipe is called whose file does not say.
  public static let defaultName = "custom"

  /// Reads a recipe from YAML (`formats/recipes.md`).
  ///
  /// Aliases are refused, so that a short file cannot say something long; the parser refuses more than
  /// 1000 levels, and the file is short: time and memory are bounded.
  ///
  /// - Parameters:
  ///   - bytes: the file.
  ///   - path: what errors call it.
  /// - Throws: ``RecipeError/invalid(path:line:problem:)``.
  public init(yaml bytes: [UInt8], path: String) throws(RecipeError) {
    let reader = RecipeReader(path: path)
    let fields = try reader.fields(
      of: try reader.root(bytes), keys: ["name", "base", "rules"], "a recipe")
    var name = Self.defaultName
    if let node = fields["name"] {
      name = try reader.text(node, "name")
      guard !name.isEmpty, name.utf8.count <= 64 else {
        throw reader.error(node, "a name has 1 to 64 bytes")
      }
    }
    var base: Recipe?
    if let node = fields["base"] {
      let text = try reader.text(node, "base")
      guard let preset = Recipe(named: text) else {
        throw reader.error(
          node, "base is \(text.shown); it must be a preset: \(Self.names(Recipe.presets))")
      }
      base = preset
    }
    var rules: [Rule] = []
    if let node = fields["rules"] {
      guard let nodes = node.sequence else { throw reader.error(node, "rules must be a list") }
      guard nodes.count <= Self.maximumRuleCount else {
        throw reader.error(node, "more than \(Self.maximumRuleCount) rules")
      }
      for node in nodes { rules.append(try reader.rule(node)) }
      guard rules.reduce(0, { $0 + $1.names.count }) <= Self.maximumRuleCount else {
        throw reader.error(node, "more than \(Self.maximumRuleCount) patterns of names")
      }
    }
    guard base != nil || !rules.isEmpty else {
      throw RecipeError.invalid(path: path, line: nil, problem: "neither a base nor rules")
    }
    self.init(name: name, rules: rules, base: base)
    if let node = fields["name"], Recipe(named: name) != nil, !isPreset {
      throw reader.error(node, "\(name) is the name of a preset that says something else")
    }
    guard yaml.utf8.count <= Self.maximumByteCount else {
      throw RecipeError.invalid(path: path, line: nil, problem: "too long to be recorded in a slab")
    }
  }

  private static func names(_ recipes: [Recipe]) -> String {
    recipes.map(\.name).joined(separator: ", ")
  }
}
