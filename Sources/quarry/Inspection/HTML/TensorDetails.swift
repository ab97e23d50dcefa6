import JSON
import ModelFiles
import TensorCore

/// What the page shows of a tensor on demand, as few characters as that takes: figures, each with a
/// title, a sentence, and bars; then lines of text.
enum TensorDetails {
  /// Reads every value of every tensor.
  ///
  /// - Parameter progress: called with bytes that are done, of how many, and a tensor's name; throws
  ///   to stop.
  static func all(
    of listing: ModelListing, pool: WorkerPool, progress: (Int, Int, String) throws -> Void
  ) throws -> [JSONValue] {
    let total = listing.total.logicalByteCount
    var done = 0
    return try listing.tensors.map { tensor in
      try progress(done, total, tensor.name.shown)
      defer { done += tensor.logicalByteCount }
      return details(try TensorView(listing, tensor, pool: pool))
    }
  }

  private static func details(_ view: TensorView) -> JSONValue {
    guard let values = view.values else {
      return .object([
        "figures": .array([]),
        "lines": .array([.string("The values of \(view.tensor.encoding) are not decoded.")]),
      ])
    }
    var figures: [JSONValue] = []
    let bound = Double(values.bound)
    let width = 2 * bound / Double(max(1, values.histogram.count))
    figures.append(
      figure(
        "values", TensorView.summary(values),
        values.bound > 0 ? values.histogram : [], from: -bound + width / 2, step: width))
    if let blocks = view.blocks {
      let used = blocks.scaleCounts.indices.filter { blocks.scaleCounts[$0] > 0 }
      let range = (used.first ?? 0)..<(used.last ?? -1) + 1
      figures.append(
        figure(
          "block scales", TensorView.summary(blocks), Array(blocks.scaleCounts[range]),
          from: Double(range.lowerBound - 128), step: 1))
      let hasCodebook = blocks.codeValues.count == 16
      var codes = figure(
        "codes",
        hasCodebook ? "code = value, and how many weights have it" : "how many weights have them",
        blocks.codeCounts, from: hasCodebook ? 0 : -128, step: 1)
      if hasCodebook, case .object(var members) = codes {
        members["labels"] = .array(
          blocks.codeValues.enumerated().map { .string("\($0) = \($1)") })
        codes = .object(members)
      }
      figures.append(codes)
    }
    return .object(["figures": .array(figures), "lines": .array(lines(view, values))])
  }

  private static func figure(
    _ title: String, _ text: String, _ counts: [Int], from: Double, step: Double
  ) -> JSONValue {
    func short(_ value: Double) -> JSONValue {
      .double(Double(Format.significant(value, 6)) ?? value)
    }
    return .object([
      "title": .string(title), "text": .string(text), "from": short(from), "step": short(step),
      "counts": .array(counts.map { .integer($0) }),
    ])
  }

  private static func lines(_ view: TensorView, _ values: ValueStatistics) -> [JSONValue] {
    var lines: [String] = []
    for (kind, channels) in [("columns", values.columns), ("rows", values.rows)]
    where !channels.isEmpty {
      let items = channels.map {
        "\($0.index) (RMS \(Format.significant($0.rootMeanSquare)), "
          + "\(Format.significant($0.ratio)) times the median)"
      }
      lines.append("largest \(kind): " + items.joined(separator: ", "))
    }
    if let digest = view.tensor.digest { lines.append("digest \(digest)") }
    return lines.map { .string($0) }
  }
}
