/// Why a slab is not exported, besides damage (`SlabError`) and the system's refusals (`FileError`).
public enum ExportError: Error, Equatable, CustomStringConvertible {
  case noConfiguration(path: String)
  /// A value that is not finite, or is not as the type that is written.
  case nonFinite(path: String, tensor: String, row: Int, column: Int, type: String)
  /// What the target cannot express, and another way.
  case unsupported(path: String, what: String, instead: String)

  public var description: String {
    switch self {
    case .noConfiguration(let path):
      "\(path): the slab holds no config.json, without which no tool can load its weights."
    case .nonFinite(let path, let tensor, let row, let column, let type):
      "\(path), \(tensor): the value in row \(row), column \(column) is not finite as \(type)."
    case .unsupported(let path, let what, let instead):
      "\(path): \(what); \(instead)"
    }
  }
}
