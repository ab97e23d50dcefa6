/// A small file that travels with the weights, byte for byte: configuration, tokenizer, template.
public struct SlabAsset: Sendable, Equatable {
  /// The file's name in the checkpoint directory, as in `tokenizer.json`.
  public let name: String
  public let bytes: [UInt8]

  public init(name: String, bytes: [UInt8]) {
    self.name = name
    self.bytes = bytes
  }
}
