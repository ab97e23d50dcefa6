/// Why a recipe cannot be used.
public enum RecipeError: Error, Equatable, CustomStringConvertible {
  /// Matrices of the checkpoint that no rule matches.
  case unmatched(recipe: String, tensors: [String])

  public var description: String {
    switch self {
    case .unmatched(let recipe, let tensors):
      let shown = tensors.prefix(3).joined(separator: ", ") + (tensors.count > 3 ? ", …" : "")
      return "recipe \(recipe): no rule matches \(tensors.count) of the tensors (\(shown))"
    }
  }
}
