/// A file could not be opened, read, written or renamed.
public struct FileError: Error, Equatable, CustomStringConvertible {
  public let path: String
  /// What was attempted and why it failed, as a clause without a full stop.
  public let reason: String
  /// The system's error number, where the system refused.
  public let code: Int32?

  public init(path: String, reason: String, code: Int32? = nil) {
    self.path = path
    self.reason = reason
    self.code = code
  }

  public var description: String { "\(path): \(reason)" }
}

extension String {
  /// The text of a hostile file as error messages show it: control characters as escapes, at most
  /// 120 characters.
  package var shown: String {
    var result = ""
    for scalar in unicodeScalars.prefix(120) { result += scalar.escaped(asASCII: false) }
    return unicodeScalars.count > 120 ? result + "…" : result
  }
}
