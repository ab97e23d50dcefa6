import JSON

/// Why a recipe cannot be used.
public enum RecipeError: Error, Equatable, CustomStringConvertible {
  /// The file is no recipe; with the line, from 1, where it says something wrong.
  case invalid(path: String, line: Int?, problem: String)
  /// Matrices of the model that no rule matches.
  case unmatched(recipe: String, tensors: [String])
  /// A rule asks for what cannot be; `rule` describes it.
  case impossible(recipe: String, rule: String, problem: String)

  public var description: String {
    switch self {
    case .invalid(let path, let line, let problem):
      return "\(path.shown)\(line.map { ":\($0)" } ?? ""): \(problem)"
    case .unmatched(let recipe, let tensors):
      let shown = tensors.prefix(3).joined(separator: ", ") + (tensors.count > 3 ? ", …" : "")
      return """
        recipe \(recipe.shown): no rule matches \(tensors.count) of the matrices (\(shown)); \
        begin with a base (such as `base: q4`), or end with a rule that matches everything
        """
    case .impossible(let recipe, let rule, let problem):
      return "recipe \(recipe.shown): \(rule) \(problem)"
    }
  }
}
