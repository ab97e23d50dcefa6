import JSON
import ModelFiles
import TensorCore

/// What encoding did to a tensor, seen from the checkpoint that it was made of.
struct SourceErrors {
  let source: ModelListing
  let errors: BlockErrors

  /// Columns of a block where the tensor has none.
  private static let plainBlockSize = 32

  /// - Throws: ``InputError`` if the source has no such tensor of this shape.
  init(
    of tensor: ListedTensor, _ rows: TensorRows, in source: ModelListing, pool: WorkerPool
  ) throws {
    self.source = source
    let original = try source.require(tensor.name)
    guard original.shape == tensor.shape else {
      throw InputError(
        "\(source.path.shown): \(tensor.name.shown) has shape \(Format.shape(original.shape)), and "
          + "\(Format.shape(tensor.shape)) in what is inspected")
    }
    var blockSize: Int?
    if case .weights(let weights) = rows { blockSize = weights.encoding.blockSize }
    errors = BlockErrors(
      of: rows, against: try source.rows(of: original, pool: pool),
      blockSize: blockSize ?? Self.plainBlockSize, pool: pool)
  }

  var json: JSONValue {
    func finite(_ value: Double) -> JSONValue { value.isFinite ? .double(value) : .null }
    let statistics = errors.statistics
    return .object([
      "source": .string(source.path),
      "normalized_mean_squared_error": finite(statistics.normalizedMeanSquaredError),
      "maximum_absolute_error": finite(statistics.maximumAbsoluteError),
      "cosine_similarity": finite(statistics.cosineSimilarity),
      "blocks": .array(
        errors.largest.map { block in
          .object([
            "row": .integer(block.row), "column": .integer(block.columns.lowerBound),
            "columns": .integer(block.columns.count), "squared_error": finite(block.squaredError),
            "normalized_mean_squared_error": finite(block.normalizedMeanSquaredError),
            "largest_difference": finite(block.largestDifference),
          ])
        }),
    ])
  }

  func text(_ screen: Screen) -> String {
    let statistics = errors.statistics
    let title = screen.titled(
      "blocks with the largest error",
      "seen from \(source.path.shown), where the tensor's NMSE is "
        + "\(Format.significant(statistics.normalizedMeanSquaredError)), its largest difference "
        + Format.significant(statistics.maximumAbsoluteError))
    guard !errors.largest.isEmpty else { return title }
    var table = ScreenTable(columns: [
      .init(title: "row", isRight: true), .init(title: "columns"),
      .init(title: "NMSE", isRight: true), .init(title: "largest difference", isRight: true),
      .init(title: "of all squared error", isRight: true, expendability: 1),
    ])
    table.rows = errors.largest.map { block in
      let share = 100 * block.squaredError / errors.squaredError
      return [
        "\(block.row)", "\(block.columns.lowerBound)…\(block.columns.upperBound - 1)",
        Format.significant(block.normalizedMeanSquaredError),
        Format.significant(block.largestDifference),
        share.isFinite ? "\(Format.significant(share, 2)) %" : "",
      ]
    }
    return title + "\n" + table.text(screen)
  }
}
