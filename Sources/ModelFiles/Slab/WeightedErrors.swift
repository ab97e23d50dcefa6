import TensorCore

/// Importance-weighted errors of tensors travel in the metadata (formats/slab.md, section 5): entries
/// `weighted-errors`, `weighted-errors.2` and so on of lines `ERROR NAME`, in the order of the names.
extension SlabIndex {
  private static let weightedErrorsKey = "weighted-errors"

  /// Those of all tensors that have one. ``tensors`` are sorted.
  var weightedErrorMetadata: [String: String] {
    var texts: [String] = []
    for tensor in tensors {
      guard let error = tensor.statistics?.weightedError else { continue }
      let line = "\(error) \(tensor.name)"
      if let last = texts.last,
        last.utf8.count + 1 + line.utf8.count <= SlabFormat.maximumValueByteCount
      {
        texts[texts.count - 1] += "\n" + line
      } else {
        texts.append(line)
      }
    }
    var entries: [String: String] = [:]
    for (place, text) in texts.enumerated() { entries[Self.weightedErrorsKey(place)] = text }
    return entries
  }

  /// Puts what the metadata say into ``tensors``; lines that say nothing are passed over.
  mutating func readWeightedErrors() {
    var place = 0
    while let text = metadata[Self.weightedErrorsKey(place)] {
      for line in text.split(separator: "\n") {
        let parts = line.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, let error = Double(parts[0]), error.isFinite, error >= 0,
          let position = position(ofTensor: String(parts[1])),
          tensors[position].statistics != nil
        else { continue }
        tensors[position].statistics?.weightedError = error
      }
      place += 1
    }
  }

  private static func weightedErrorsKey(_ place: Int) -> String {
    place == 0 ? weightedErrorsKey : "\(weightedErrorsKey).\(place + 1)"
  }

  /// Whether an entry of the metadata holds what tensors have in ``SlabTensor/statistics``.
  static func isWeightedErrors(_ key: String) -> Bool {
    key == weightedErrorsKey || key.hasPrefix(weightedErrorsKey + ".")
  }
}
