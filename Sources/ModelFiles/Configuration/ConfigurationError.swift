public import JSON

/// Why a config.json or generation_config.json is not acceptable.
public enum ConfigurationError: Error, Equatable, CustomStringConvertible {
  /// Not JSON at all.
  case malformed(JSONError)
  /// A field that must be there is missing or null.
  case missing(field: String)
  /// A field has the wrong type or lies outside its range.
  case invalid(field: String, expected: String, found: String)
  /// Well formed, but of a kind that is not run. Nothing is guessed: it is named instead.
  case unsupported(field: String, found: String, supported: String)

  public var description: String {
    switch self {
    case .malformed(let error): "not readable as JSON: \(error.description.shown)"
    case .missing(let field): "\(field) is missing"
    case .invalid(let field, let expected, let found):
      "\(field): expected \(expected), found \(found)"
    case .unsupported(let field, let found, let supported):
      "\(field): \(found) is not supported; supported: \(supported)"
    }
  }
}
