public import ModelFiles
public import TensorCore

/// What a conversion will write, in the order of the file: the matrices of the layers ascending,
/// one-dimensional tensors, output projection, embedding. Costs nothing to make.
public struct ConversionPlan: Sendable {
  /// One tensor and what becomes of it.
  public struct Entry: Sendable {
    /// The tensor of the checkpoint.
    public let tensor: TensorDescriptor
    /// What the tensor does in the model.
    public let role: TensorRole
    /// Element type in the checkpoint.
    public let sourceType: ElementType
    /// Nil for tensors that stay plain float32.
    public let encoding: BlockEncoding?
    /// Bytes of all streams, padding of rows and columns included, uncompressed.
    public let logicalByteCount: Int
  }

  /// One for each tensor, in the order in which they are written.
  public let entries: [Entry]
  private let assetByteCount: Int

  /// Bytes of all source tensors.
  public var sourceByteCount: Int { entries.reduce(0) { $0 + $1.tensor.byteCount } }
  /// Bytes of all streams, uncompressed.
  public var logicalByteCount: Int { entries.reduce(0) { $0 + $1.logicalByteCount } }

  /// What the slab will have at most: streams, assets, padding to segments, digests, the index.
  /// Compression only makes it smaller.
  public var maximumFileByteCount: Int {
    let bytes = logicalByteCount + assetByteCount
    // For each tensor a segment's padding and some streams in the index; for each frame of 1 MiB two
    // digests and a length.
    return bytes + entries.count * (16384 + 1024) + bytes / (1 << 20) * 96 + 1 << 16
  }

  /// What `recipe` makes of the tensors of `checkpoint`; reads no weights.
  public init(_ checkpoint: Checkpoint, recipe: Recipe) {
    var layers: [Entry] = []
    var plain: [Entry] = []
    var ends: [Entry] = []
    for (name, _) in checkpoint.configuration.expectedTensors {
      // A checkpoint has been checked against its configuration, whose names all have roles.
      guard let tensor = checkpoint.descriptor(named: name), let type = tensor.elementType,
        let role = TensorRole(tensorName: name)
      else { preconditionFailure("\(name) has no role") }
      let encoding = recipe.encoding(for: role)
      let entry = Entry(
        tensor: tensor, role: role, sourceType: type, encoding: encoding,
        logicalByteCount: Self.byteCount(tensor, encoding))
      switch role {
      case .norm, .bias: plain.append(entry)
      case .attention, .mlp: layers.append(entry)
      case .embedding, .output: ends.insert(entry, at: 0)
      }
    }
    entries = layers + plain + ends
    assetByteCount = checkpoint.assets.reduce(0) { $0 + $1.bytes.count }
  }

  private static func byteCount(_ tensor: TensorDescriptor, _ encoding: BlockEncoding?) -> Int {
    guard let encoding else { return tensor.elementCount * 4 }
    // The configuration's ranges lie within those of a geometry.
    return PanelGeometry(rows: tensor.shape[0], columns: tensor.shape[1])!.byteCount(in: encoding)
  }
}
