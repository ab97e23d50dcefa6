import TensorCore

/// Tensors that belong together, summed up.
public struct TensorGroup: Sendable {
  public let name: String
  public fileprivate(set) var tensorCount = 0
  public fileprivate(set) var parameterCount = 0
  public fileprivate(set) var storedByteCount = 0
  public fileprivate(set) var logicalByteCount = 0
  /// Tensors in each encoding, in the order in which they come first.
  public fileprivate(set) var encodings: [(name: String, count: Int)] = []
  /// Mean of the recorded normalised mean squared errors; nil where none is recorded.
  public var meanError: Double? { errorCount > 0 ? errorSum / Double(errorCount) : nil }
  /// The largest of them.
  public fileprivate(set) var maximumError: Double?
  /// The smallest recorded cosine similarity.
  public fileprivate(set) var minimumCosine: Double?
  private var errorSum = 0.0
  private var errorCount = 0

  /// Logical bits; nil where there are no parameters.
  public var bitsPerWeight: Double? {
    parameterCount > 0 ? 8 * Double(logicalByteCount) / Double(parameterCount) : nil
  }

  init(name: String) { self.name = name }

  mutating func add(_ tensor: ListedTensor) {
    tensorCount += 1
    // No sum overflows: readers bound tensors by the bytes of the file, slabs each far below an `Int`.
    parameterCount += tensor.parameterCount
    storedByteCount += tensor.storedByteCount
    logicalByteCount += tensor.logicalByteCount
    if let index = encodings.firstIndex(where: { $0.name == tensor.encoding }) {
      encodings[index].count += 1
    } else {
      encodings.append((tensor.encoding, 1))
    }
    guard let statistics = tensor.statistics else { return }
    errorSum += statistics.normalizedMeanSquaredError
    errorCount += 1
    maximumError = max(maximumError ?? 0, statistics.normalizedMeanSquaredError)
    minimumCosine = min(minimumCosine ?? 1, statistics.cosineSimilarity)
  }
}

extension ModelListing {
  /// Sums of all tensors.
  public var total: TensorGroup {
    var total = TensorGroup(name: "all")
    for tensor in tensors { total.add(tensor) }
    return total
  }

  /// Sums by ``ListedTensor/role``: in the order of ``TensorRole``, then the others.
  public var roles: [TensorGroup] {
    let order =
      TensorRole.allCases.map(\.rawValue) + [ListedTensor.columnScalesRole, "other"]
    return grouped { $0.role }.sorted {
      (order.firstIndex(of: $0.name) ?? 0) < (order.firstIndex(of: $1.name) ?? 0)
    }
  }

  /// Sums by layer, ascending, then one for each role outside the layers.
  public var layers: [TensorGroup] {
    var layers: [Int: TensorGroup] = [:]
    for tensor in tensors {
      guard let layer = tensor.layer else { continue }
      layers[layer, default: TensorGroup(name: "\(layer)")].add(tensor)
    }
    let outside = grouped { $0.layer == nil ? $0.role : nil }
    return layers.sorted { $0.key < $1.key }.map(\.value) + outside
  }

  private func grouped(_ key: (ListedTensor) -> String?) -> [TensorGroup] {
    var groups: [TensorGroup] = []
    for tensor in tensors {
      guard let name = key(tensor) else { continue }
      let index =
        groups.firstIndex { $0.name == name }
        ?? {
          groups.append(TensorGroup(name: name))
          return groups.count - 1
        }()
      groups[index].add(tensor)
    }
    return groups
  }
}
