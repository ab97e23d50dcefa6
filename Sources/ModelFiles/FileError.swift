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
