import JSON
import ModelFiles
import TensorCore

extension Recipe {
  /// This recipe as a file (`formats/recipes.md`) that reads back as the same rules. Two recipes that
  /// say the same have the same text, whatever their files looked like.
  public var yaml: String {
    var lines = ["name: \(Self.quoted(name))"]
    if let base { lines.append("base: \(base)") }
    let own = rules.prefix(ownRuleCount)
    lines.append(own.isEmpty ? "rules: []" : "rules:")
    lines += own.map { "  - \($0.yaml)" }
    return lines.joined(separator: "\n") + "\n"
  }

  /// What a slab records of the recipe that it was made with: its name and, but for presets, its rules.
  var metadata: [String: String] {
    isPreset ? ["recipe": name] : ["recipe": name, "recipe-yaml": yaml]
  }

  /// JSON's strings are YAML's double-quoted ones.
  fileprivate static func quoted(_ text: String) -> String {
    JSONValue.string(text).serialized()
  }
}

extension Recipe.Rule {
  /// The rule on one line, as a YAML mapping.
  public var yaml: String {
    var fields: [String] = []
    func list(_ items: [String]) -> String {
      items.count == 1 ? items[0] : "[\(items.joined(separator: ", "))]"
    }
    if !names.isEmpty {
      fields.append("tensors: \(list(names.map { Recipe.quoted($0.pattern) }))")
    }
    if !roles.isEmpty { fields.append("roles: \(list(roles.map(\.rawValue)))") }
    if let layers {
      let ranges = layers.ranges.map {
        $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)"
      }
      if !ranges.isEmpty { fields.append("layers: \(list(ranges))") }
      if layers.first > 0 { fields.append("first: \(layers.first)") }
      if layers.last > 0 { fields.append("last: \(layers.last)") }
    }
    fields.append("encoding: \(encoding.name)")
    return "{\(fields.joined(separator: ", "))}"
  }
}
