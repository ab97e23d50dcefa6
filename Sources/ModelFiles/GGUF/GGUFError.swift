import JSON

/// Why a GGUF file is not acceptable: where, what was expected and found.
public struct GGUFError: Error, Equatable, Sendable, CustomStringConvertible {
  /// One case for every way in which such a file can lie.
  public enum Reason: String, Sendable, CaseIterable {
    /// The file cannot be opened or read.
    case unreadableFile = "cannot be read"
    /// The file does not begin as GGUF files do.
    case notGGUF = "not a GGUF file"
    /// A version, or an order of bytes, that is not read.
    case version = "unsupported version"
    /// The file ends before what it announces.
    case truncated = "the file ends too early"
    /// More entries, dimensions or bytes than a file can have.
    case count = "an impossible count"
    /// A name is empty, too long or no UTF-8.
    case name = "an unacceptable name"
    /// Two entries or two tensors have one name.
    case duplicateName = "the name occurs twice"
    /// A metadata type that does not exist, arrays nested too deeply, a truth value that is neither.
    case value = "an unacceptable value"
    /// A ggml type that does not exist or is not known.
    case elementType = "unknown tensor type"
    /// More elements than can be counted, or rows that are no whole blocks.
    case shape = "wrong shape"
    /// Tensors begin where they must not, overlap or leave the file.
    case offsets = "wrong offsets"
    /// `general.alignment` is no power of two.
    case alignment = "wrong alignment"
  }

  public let reason: Reason
  public let path: String
  /// Byte of the file where what is wrong begins.
  public let offset: Int
  /// The metadata key or the tensor concerned.
  public let name: String?
  public let expected: String?
  public let found: String?

  init(
    _ reason: Reason, path: String, offset: Int, name: String? = nil, expected: String? = nil,
    found: String? = nil
  ) {
    self.reason = reason
    self.path = path
    self.offset = offset
    self.name = name
    self.expected = expected
    self.found = found
  }

  public var description: String {
    var text = path.shown + ": "
    if let name { text += name.shown + ": " }
    text += reason.rawValue
    if reason != .unreadableFile { text += " at byte \(offset)" }
    if let expected { text += "; expected \(expected)" }
    if let found { text += expected == nil ? ": \(found)" : ", found \(found)" }
    return text
  }
}
