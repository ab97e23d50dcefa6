public import ModelFiles
public import TensorCore

/// What a conversion made.
public struct ConversionReport: Sendable {
  /// The tensors of one role and encoding, taken together.
  public struct Kind: Sendable {
    /// What these tensors do in the model.
    public let role: TensorRole
    /// Nil for plain float32.
    public let encoding: BlockEncoding?
    /// Tensors of this kind.
    public internal(set) var tensorCount = 0
    /// Elements of all of them, without padding.
    public internal(set) var weightCount = 0
    /// Bytes of all streams, uncompressed.
    public internal(set) var logicalByteCount = 0
    /// Mean over the tensors, by their number of weights; 0 for plain tensors, which are exact.
    public internal(set) var normalizedMeanSquaredError = 0.0
    /// The same with squares weighed by importance; nil where no tensor has that.
    public var weightedError: Double? { weighted.count > 0 ? weighted.mean : nil }
    /// Over the tensors that have a weighted error, by their number of weights.
    private var weighted = (mean: 0.0, count: 0)
    /// Largest difference of a weight to its original.
    public internal(set) var maximumAbsoluteError = 0.0
    /// Of the tensor with the smallest.
    public internal(set) var minimumCosineSimilarity = 1.0
    /// The tensor with the largest normalised mean squared error.
    public internal(set) var worstTensor: (name: String, normalizedMeanSquaredError: Double)?

    /// Logical bits for each weight, scales, codebooks and padding included.
    public var bitsPerWeight: Double { Double(logicalByteCount) * 8 / Double(weightCount) }

    fileprivate init(_ entry: ConversionPlan.Entry) {
      role = entry.role
      encoding = entry.encoding
    }

    fileprivate mutating func add(_ entry: ConversionPlan.Entry, _ statistics: ErrorStatistics?) {
      let weights = entry.tensor.elementCount
      let error = statistics?.normalizedMeanSquaredError ?? 0
      normalizedMeanSquaredError =
        (normalizedMeanSquaredError * Double(weightCount) + error * Double(weights))
        / Double(weightCount + weights)
      tensorCount += 1
      weightCount += weights
      logicalByteCount += entry.logicalByteCount
      guard let statistics else { return }
      if let error = statistics.weightedError {
        let count = weighted.count + weights
        weighted.mean += (error - weighted.mean) * Double(weights) / Double(count)
        weighted.count = count
      }
      maximumAbsoluteError = max(maximumAbsoluteError, statistics.maximumAbsoluteError)
      minimumCosineSimilarity = min(minimumCosineSimilarity, statistics.cosineSimilarity)
      if error > worstTensor?.normalizedMeanSquaredError ?? 0 {
        worstTensor = (entry.tensor.name, error)
      }
    }
  }

  /// Kinds as they are met.
  struct Kinds {
    private var kinds: [Kind] = []

    init() {}

    /// Of tensors that a slab holds already.
    init(_ entries: some Sequence<ConversionPlan.Entry>, in tensors: [SlabTensor]) {
      let statistics = Dictionary(tensors.map { ($0.name, $0.statistics) }) { first, _ in first }
      for entry in entries { add(entry, statistics[entry.tensor.name] ?? nil) }
    }

    mutating func add(_ entry: ConversionPlan.Entry, _ statistics: ErrorStatistics?) {
      let known = kinds.firstIndex { $0.role == entry.role && $0.encoding == entry.encoding }
      if known == nil { kinds.append(Kind(entry)) }
      kinds[known ?? kinds.count - 1].add(entry, statistics)
    }

    /// By role, then by encoding.
    var all: [Kind] {
      TensorRole.allCases.flatMap { role in
        kinds.filter { $0.role == role }.sorted {
          $0.encoding?.rawValue ?? 0 < $1.encoding?.rawValue ?? 0
        }
      }
    }
  }

  /// The recipe that chose the encodings.
  public let recipe: Recipe
  /// Whether, and by what, errors were weighed.
  public let calibration: CalibrationOutcome
  /// The profile of the slab.
  public let profile: SlabProfile
  /// In the order of ``TensorRole``, then of ``BlockEncoding``.
  public let kinds: [Kind]
  /// Bytes of the source's tensors.
  public let sourceByteCount: Int
  /// Bytes of the slab.
  public let fileByteCount: Int
  /// The identity of the model (formats/slab.md, section 7).
  public let rootDigest: Digest
  /// What an interrupted conversion had done that this one went on behind; nil where there was none.
  public let resumedAfter: String?
  /// Whether that had finished the slab, and only its journal was left to be removed.
  public let wasFinished: Bool
  /// Bytes of the source's tensors that this run converted: all, unless another had begun.
  public let convertedByteCount: Int
  /// From the start of the conversion to the slab being on the disk.
  public let duration: Duration

  /// Elements of all tensors, without padding.
  public var weightCount: Int { kinds.reduce(0) { $0 + $1.weightCount } }
  /// Bits of all streams for each weight, uncompressed.
  public var bitsPerWeight: Double {
    Double(kinds.reduce(0) { $0 + $1.logicalByteCount }) * 8 / Double(weightCount)
  }
}
