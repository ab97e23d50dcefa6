public import ModelFiles
public import TensorCore

extension ConversionPlan {
  /// Tensors of one role that become the same.
  public struct Group: Sendable {
    public let role: TensorRole
    /// Nil for plain float32.
    public let encoding: BlockEncoding?
    /// In the order of the file.
    public let entries: [Entry]

    /// Elements of all of them, without padding.
    public var weightCount: Int { entries.reduce(0) { $0 + $1.tensor.elementCount } }
    /// Bytes of all streams, uncompressed.
    public var logicalByteCount: Int { entries.reduce(0) { $0 + $1.logicalByteCount } }
    /// Logical bits for each weight, scales, codebooks and padding included.
    public var bitsPerWeight: Double { Double(logicalByteCount) * 8 / Double(weightCount) }
    /// Decoder layers of the tensors, as in `0-3,38`; empty for tensors outside the layers.
    public var layers: String {
      let layers = entries.compactMap(\.layer).map { $0...$0 }
      return Recipe.LayerSelection(ranges: layers).ranges.map {
        $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)"
      }.joined(separator: ",")
    }
  }

  /// The entries by role, then by encoding.
  public var groups: [Group] {
    struct Key: Hashable {
      let role: TensorRole
      let encoding: BlockEncoding?
    }
    let groups = Dictionary(grouping: entries) { Key(role: $0.role, encoding: $0.encoding) }
    return TensorRole.allCases.flatMap { role in
      ([nil] + BlockEncoding.allCases).compactMap { encoding in
        groups[Key(role: role, encoding: encoding)].map {
          Group(role: role, encoding: encoding, entries: $0)
        }
      }
    }
  }

  /// Elements of all tensors, without padding.
  public var weightCount: Int { entries.reduce(0) { $0 + $1.tensor.elementCount } }
  /// Bits of all streams for each weight, uncompressed.
  public var bitsPerWeight: Double { Double(logicalByteCount) * 8 / Double(weightCount) }

  /// Matrices that every token of decoding is multiplied with: all but an embedding of which only rows
  /// are looked up.
  public var decodedEntries: [Entry] {
    let isTied = !entries.contains { $0.role == .output }
    return entries.filter {
      $0.role.isMatrix && $0.role != .positions && ($0.role != .embedding || isTied)
    }
  }

  /// Stored bytes that a decoded token reads: matrices, of the experts as many as it is sent to, and what
  /// is no matrix.
  public var decodedByteCount: Int {
    (decodedEntries + entries.filter { !$0.role.isMatrix }).reduce(0) { $0 + $1.usedByteCount }
  }

  /// Weights of the decoder layers' matrices that a token is multiplied with.
  public var multipliedWeightCount: Int {
    layerEntries.reduce(0) {
      $0 + $1.tensor.elementCount / $1.tensor.matrixCount * $1.usedMatrixCount
    }
  }

  /// Matrices of the decoder layers, which a calibration text runs through.
  public var layerEntries: [Entry] { entries.filter { $0.layer != nil && $0.role.isMatrix } }
}
