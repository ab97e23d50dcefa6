import ArgumentParser
import Conversion

/// A recipe on the command line: a preset's name, or a file.
enum RecipeArgument: ExpressibleByArgument, Equatable {
  case preset(Recipe)
  case file(String)

  /// What looks like a path is one.
  init?(argument: String) {
    if let preset = Recipe(named: argument) {
      self = .preset(preset)
    } else if [".yaml", ".yml"].contains(where: argument.hasSuffix) || argument.contains("/") {
      self = .file(argument)
    } else {
      return nil
    }
  }

  static var allValueStrings: [String] { Recipe.presets.map(\.name) + ["FILE.yaml"] }

  static var defaultCompletionKind: CompletionKind { .file(extensions: ["yaml", "yml"]) }

  var defaultValueDescription: String {
    switch self {
    case .preset(let recipe): recipe.name
    case .file(let path): path
    }
  }

  /// - Throws: `RecipeError`, ``InputError``.
  func load() throws -> Recipe {
    switch self {
    case .preset(let recipe): recipe
    case .file(let path):
      try Recipe(
        yaml: InputFiles.read(path, atMost: Recipe.maximumByteCount + 1), path: path)
    }
  }
}
