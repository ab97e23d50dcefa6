import JSON

/// Why a checkpoint is not acceptable: which file, which tensor, what was expected and found.
public struct CheckpointError: Error, Equatable, CustomStringConvertible {
  /// One case for every way in which a checkpoint can lie.
  public enum Reason: String, Sendable, CaseIterable {
    /// A file cannot be opened or read.
    case unreadableFile = "cannot be read"
    /// The directory holds no safetensors checkpoint.
    case noCheckpoint = "no checkpoint here"
    /// config.json or generation_config.json is not acceptable.
    case configuration = "the configuration is not acceptable"
    /// A safetensors header is longer than its file or than the limit.
    case headerLength = "wrong header length"
    /// A header or an index is not JSON of the right form.
    case malformed = "malformed"
    /// Two tensors have one name, in one file or in two.
    case duplicateName = "the name occurs twice"
    /// The element type is unknown, or not one that weights may have.
    case elementType = "unsupported element type"
    /// Too many dimensions, a negative one, or more elements than can be counted.
    case shape = "wrong shape"
    /// Offsets are reversed, do not match the shape, overlap, leave a hole or leave the file.
    case offsets = "wrong offsets"
    /// A shard is named in a way that could lead out of the directory.
    case shardName = "not the plain name of a shard"
    /// A tensor that the configuration or the index promises is not there.
    case missingTensor = "the tensor is missing"
    /// A tensor that the configuration or the index does not know.
    case unexpectedTensor = "an unknown tensor"
    /// The configuration ties the output projection to the embedding, but it differs.
    case untiedOutput = "the output projection differs from the embedding it is tied to"
    /// A file is not the one that was opened, or not as it was.
    case changed = "the file changed while it was in use"
    /// A file that was opened is not there any more.
    case vanished = "the file vanished while it was in use"
    /// A weight is NaN or infinite.
    case nonFinite = "a weight is not finite"
  }

  /// Path of the file, or of the directory.
  public let file: String
  /// Name of the tensor in question, if it is about one.
  public let tensor: String?
  /// What is wrong.
  public let reason: Reason
  /// What a sound checkpoint has there.
  public let expected: String?
  /// What this one has.
  public let found: String?

  init(
    _ reason: Reason, in file: String, tensor: String? = nil, expected: String? = nil,
    found: String? = nil
  ) {
    self.reason = reason
    self.file = file
    self.tensor = tensor
    self.expected = expected
    self.found = found
  }

  init(_ error: FileError) {
    self.init(.unreadableFile, in: error.path, found: error.reason)
  }

  public var description: String {
    var text = file.shown + ": "
    if let tensor { text += "tensor \(tensor.shown): " }
    text += reason.rawValue
    if let expected { text += "; expected \(expected)" }
    if let found { text += expected == nil ? ": \(found)" : ", found \(found)" }
    return text
  }
}
