public import JSON
public import TensorCore

/// A file, or a set of files, that holds tensors: what its headers say. No weight is read.
public struct ModelListing: Sendable {
  public enum Kind: String, Sendable, CaseIterable {
    case slab, safetensors, checkpoint, gguf
    /// Safetensors files with an index, without a configuration.
    case shardSet = "shard set"
  }

  /// A file that holds tensors.
  public struct File: Sendable {
    public let path: String
    public let byteCount: Int
  }

  /// What a file says about itself.
  public struct MetadataEntry: Sendable {
    public let key: String
    /// `string`; in GGUF files also numbers, and `array of …`.
    public let type: String
    /// Elements of an array; nil for other values.
    public let count: Int?
    private let content: Content

    private enum Content: Sendable {
      case text(String)
      case gguf(GGUFValue)
    }

    init(_ key: String, text: String) {
      (self.key, type, count, content) = (key, "string", nil, .text(text))
    }

    init(_ key: String, _ value: GGUFValue) {
      self.key = key
      type = value.elementType.map { "array of \($0.name)" } ?? value.type.name
      count = value.count
      content = .gguf(value)
    }

    /// The value.
    /// - Parameter limit: elements of an array that are read.
    public func json(limit: Int = .max) -> JSONValue {
      switch content {
      case .text(let text): .string(text)
      case .gguf(let value): value.json(limit: limit)
      }
    }
  }

  /// What was opened.
  public enum Source: Sendable {
    case slab(Slab)
    case safetensors([SafetensorsFile])
    case gguf(GGUFFile)
  }

  /// As it was given.
  public let path: String
  public let kind: Kind
  public let files: [File]
  /// In the order of the files and of their bytes.
  public let tensors: [ListedTensor]
  public let assets: [SlabAsset]
  public let metadata: [MetadataEntry]
  /// What the model is; without any field where nothing says so.
  public let facts: ModelFacts
  /// What is odd, as sentences.
  public let notes: [String]
  public let source: Source

  /// The slab; nil for other kinds.
  public var slab: Slab? { if case .slab(let slab) = source { slab } else { nil } }

  /// Bytes of all files.
  public var fileByteCount: Int { files.reduce(0) { $0 + $1.byteCount } }

  /// The tensor of that name; nil if there is none.
  public func tensor(named name: String) -> ListedTensor? {
    tensors.first { $0.name.utf8.elementsEqual(name.utf8) }
  }

  init(
    path: String, kind: Kind, files: [File], tensors: [ListedTensor], assets: [SlabAsset],
    metadata: [MetadataEntry], facts: ModelFacts, notes: [String], source: Source
  ) {
    self.path = path
    self.kind = kind
    self.files = files
    self.tensors = tensors
    self.assets = assets
    self.metadata = metadata
    self.facts = facts
    self.notes = notes
    self.source = source
  }
}

/// A tensor of a ``ModelListing``, whatever kind of file holds it.
public struct ListedTensor: Sendable {
  public let name: String
  /// Row-major.
  public let shape: [Int]
  /// ``TensorRole`` by name, `column-scales`, or `other` for a name of no model that is known.
  public let role: String
  /// From 0; nil outside the layers.
  public let layer: Int?
  /// `q4b16` in a slab, `bf16` in a checkpoint, `Q4_K` in a GGUF file.
  public let encoding: String
  /// `panel16`; `plain` for rows one after the other; `blocks` for GGUF's rows of blocks.
  public let layout: String
  /// Element type of the checkpoint that a slab was made from; elsewhere that of the file.
  public let sourceType: String
  /// Index in ``ModelListing/files``.
  public let file: Int
  /// Place of the first byte in that file.
  public let offset: Int
  /// Bytes in the file.
  public let storedByteCount: Int
  /// Bytes once decompressed; rows and columns that pad a matrix count.
  public let logicalByteCount: Int
  /// What encoding did to the tensor, where that was recorded.
  public let statistics: ErrorStatistics?
  /// The tensor of a slab that holds the factors of the input columns.
  public let columnScales: String?
  /// Digest of a slab's tensor.
  public let digest: Digest?

  public static let columnScalesRole = "column-scales"

  public var elementCount: Int { shape.reduce(1, *) }
  /// Weights of the model: factors that a slab keeps apart are none.
  public var parameterCount: Int { role == Self.columnScalesRole ? 0 : elementCount }
  public var bitsPerWeight: Double { 8 * Double(logicalByteCount) / Double(max(1, elementCount)) }
}
