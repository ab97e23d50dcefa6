public import TensorCore

/// What differs between two models, the first taken as the original.
public struct ModelDifference: Sendable {
  /// How one side holds a tensor.
  public struct Form: Sendable, Equatable {
    public let shape: [Int]
    /// Encoding of a slab, or element type of a checkpoint in lower case: `q4b16`, `bf16`.
    public let encoding: String
    /// In memory, padding included.
    public let byteCount: Int

    init(_ tensor: ListedTensor) {
      (shape, encoding, byteCount) = (tensor.shape, tensor.encoding, tensor.logicalByteCount)
    }
  }

  /// How the values of a tensor relate.
  public enum Relation: Sendable, Equatable {
    /// The same bytes in the same encoding.
    case identical
    /// Every value is the same, but not the bytes or the encoding.
    case equal
    /// `count` elements differ. Nil where the elements are no floating-point numbers.
    case differing(count: Int, ErrorStatistics?)
    /// The shapes differ, so that there is nothing to compare.
    case reshaped
    /// Only the first model has it.
    case removed
    /// Only the second model has it.
    case added
  }

  public struct Tensor: Sendable {
    public let name: String
    public let old: Form?
    public let new: Form?
    public let relation: Relation
    /// Whether it lies elsewhere among the tensors that both have; false between a slab and a
    /// checkpoint, whose orders have nothing to do with each other.
    public let isMoved: Bool

    public var isReencoded: Bool {
      if let old, let new { old.encoding != new.encoding } else { false }
    }
    /// Whether both models have the tensor with the same values.
    public var isSame: Bool { relation == .identical || relation == .equal }
  }

  public struct Asset: Sendable {
    public let name: String
    public let old: [UInt8]?
    public let new: [UInt8]?

    public var isSame: Bool { old == new }
  }

  public struct MetadataEntry: Sendable {
    public let key: String
    public let old: String?
    public let new: String?
  }

  /// All tensors of both, by the bytes of their names.
  public let tensors: [Tensor]
  /// All assets of both, by the bytes of their names.
  public let assets: [Asset]
  /// What differs in the metadata of two slabs.
  public let metadata: [MetadataEntry]

  /// Whether both are one model: the same tensors with the same values and the same assets, however
  /// they are encoded, ordered and stored.
  public var isSameModel: Bool { tensors.allSatisfy(\.isSame) && assets.allSatisfy(\.isSame) }

  /// Compares two models, tensor by tensor. Weights are read only where digests cannot tell. Column
  /// scales belong to the tensors that name them.
  ///
  /// - Parameters:
  ///   - progress: called with the elements compared so far and those of all tensors in both.
  ///   - isCancelled: asked for every tensor.
  /// - Returns: nil if cancelled.
  /// - Throws: ``SlabError`` if weights that had to be read are damaged.
  public static func compare(
    _ old: ModelListing, _ new: ModelListing, pool: WorkerPool,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in },
    isCancelled: () -> Bool = { false }
  ) throws(SlabError) -> ModelDifference? {
    var pairs: [[UInt8]: (old: ListedTensor?, new: ListedTensor?)] = [:]
    for tensor in old.weights { pairs[Array(tensor.name.utf8), default: (nil, nil)].old = tensor }
    for tensor in new.weights { pairs[Array(tensor.name.utf8), default: (nil, nil)].new = tensor }
    let isOrdered = (old.slab == nil) == (new.slab == nil)
    let moved = isOrdered ? moved(old.weights.map(\.name), new.weights.map(\.name)) : []

    let total = pairs.values.reduce(0) { $0 + ($1.new == nil ? 0 : $1.old?.elementCount ?? 0) }
    var done = 0
    var tensors: [Tensor] = []
    for name in pairs.keys.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
      if isCancelled() { return nil }
      let pair = pairs[name]!
      let relation: Relation
      switch pair {
      case (let a?, let b?):
        relation = try Self.relation(a, in: old, b, in: new, pool: pool)
        old.release(a)
        new.release(b)
        done += a.elementCount
      case (_, nil): relation = .removed
      case (nil, _): relation = .added
      }
      tensors.append(
        Tensor(
          name: (pair.old ?? pair.new)!.name, old: pair.old.map(Form.init),
          new: pair.new.map(Form.init), relation: relation, isMoved: moved.contains(name)))
      progress(done, total)
    }
    return ModelDifference(
      tensors: tensors, assets: assets(old.assets, new.assets),
      metadata: metadata(old.slab?.metadata, new.slab?.metadata))
  }

  private static func relation(
    _ old: ListedTensor, in oldModel: ModelListing, _ new: ListedTensor, in newModel: ModelListing,
    pool: WorkerPool
  ) throws(SlabError) -> Relation {
    guard old.shape == new.shape else { return .reshaped }
    let isIdentical =
      switch (old.digest, new.digest) {
      case (let a?, let b?): a == b
      case (nil, nil):
        old.sourceType == new.sourceType
          && areEqual(oldModel.storedBytes(of: old), newModel.storedBytes(of: new), pool: pool)
      default: false
      }
    if isIdentical { return .identical }
    guard let original = try oldModel.checkedRows(of: old, pool: pool),
      let values = try newModel.checkedRows(of: new, pool: pool)
    else { return .differing(count: old.elementCount, nil) }
    let comparison = ValueComparison(of: values, against: original, pool: pool)
    return comparison.differingCount == 0
      ? .equal : .differing(count: comparison.differingCount, comparison.statistics)
  }

  private static func assets(_ old: [SlabAsset], _ new: [SlabAsset]) -> [Asset] {
    var pairs: [[UInt8]: (old: SlabAsset?, new: SlabAsset?)] = [:]
    for asset in old { pairs[Array(asset.name.utf8), default: (nil, nil)].old = asset }
    for asset in new { pairs[Array(asset.name.utf8), default: (nil, nil)].new = asset }
    return pairs.values.map { pair in
      Asset(name: (pair.old ?? pair.new)!.name, old: pair.old?.bytes, new: pair.new?.bytes)
    }.sorted { precedes($0.name, $1.name) }
  }

  private static func metadata(
    _ old: [String: String]?, _ new: [String: String]?
  ) -> [MetadataEntry] {
    guard let old, let new else { return [] }
    return Set(old.keys).union(new.keys).sorted(by: precedes).compactMap { key in
      old[key] == new[key] ? nil : MetadataEntry(key: key, old: old[key], new: new[key])
    }
  }

  /// The fewest names without which those that both orders have come in the same order in both.
  static func moved(_ old: [String], _ new: [String]) -> Set<[UInt8]> {
    var places: [[UInt8]: Int] = [:]
    for (place, name) in new.enumerated() { places[Array(name.utf8)] = place }
    let common = old.map { Array($0.utf8) }.filter { places[$0] != nil }
    // The longest increasing subsequence of the places (Fredman, 1975): ends[n] is the index of the
    // least end of one of n + 1 elements.
    var ends: [Int] = []
    var previous = [Int?](repeating: nil, count: common.count)
    for index in common.indices {
      let place = places[common[index]]!
      var (low, high) = (0, ends.count)
      while low < high {
        let middle = (low + high) / 2
        if places[common[ends[middle]]]! < place { low = middle + 1 } else { high = middle }
      }
      previous[index] = low > 0 ? ends[low - 1] : nil
      if low == ends.count { ends.append(index) } else { ends[low] = index }
    }
    var moved = Set(common)
    var next = ends.last
    while let index = next {
      moved.remove(common[index])
      next = previous[index]
    }
    return moved
  }
}

extension ModelListing {
  /// Its tensors without the column scales of a slab.
  fileprivate var weights: [ListedTensor] {
    tensors.filter { $0.role != ListedTensor.columnScalesRole }
  }
}
