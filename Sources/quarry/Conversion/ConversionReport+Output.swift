import Conversion
import JSON
import ModelFiles
import TensorCore

extension ConversionReport {
  /// What was made, for people.
  func text(output: String) -> String {
    let rows = kinds.map { kind in
      [
        kind.role.rawValue, kind.encoding?.name ?? "f32", "\(kind.tensorCount)",
        "\(kind.weightCount)", Format.decimal(kind.bitsPerWeight, 2),
        Format.significant(kind.normalizedMeanSquaredError),
        kind.weightedError.map { Format.significant($0) } ?? "",
        Format.significant(kind.maximumAbsoluteError),
        Format.decimal(kind.minimumCosineSimilarity, 5), kind.worstTensor?.name ?? "",
      ]
    }
    let seconds = duration / .seconds(1)
    return """
      \(Format.table(
        ["tensors", "encoding", "count", "weights", "bits", "NMSE", "weighted", "max error", "least cosine", "worst"],
        rows, right: [2, 3, 4, 5, 6, 7, 8]))
      \(output): \(Format.bytes(sourceByteCount)) of weights became \(Format.bytes(fileByteCount)), \
      \(Format.decimal(bitsPerWeight, 2)) bits per weight, in \(Format.decimal(seconds, 1)) s \
      (\(Format.bytes(Int(Double(convertedByteCount) / max(seconds, 1e-9))))/s)
      root \(rootDigest)
      """
  }

  /// The last event of a conversion, for programs.
  func json(output: String) -> JSONValue {
    .object([
      "event": "end",
      "output": .string(output),
      "recipe": .string(recipe.name),
      "calibration": calibrationOrigin.map { .string($0) } ?? .null,
      "profile": .string(profile.name),
      "root_digest": .string("\(rootDigest)"),
      "source_bytes": .integer(sourceByteCount),
      "slab_bytes": .integer(fileByteCount),
      "weights": .integer(weightCount),
      "bits_per_weight": .double(bitsPerWeight),
      "seconds": .double(duration / .seconds(1)),
      "resumed_after": resumedAfter.map { .string($0) } ?? .null,
      "kinds": .array(kinds.map(\.json)),
    ])
  }

  private var calibrationOrigin: String? {
    if case .done(let origin, _, _) = calibration { origin } else { nil }
  }
}

extension ConversionReport.Kind {
  fileprivate var json: JSONValue {
    .object([
      "role": .string(role.rawValue),
      "encoding": .string(encoding?.name ?? "f32"),
      "tensors": .integer(tensorCount),
      "weights": .integer(weightCount),
      "bytes": .integer(logicalByteCount),
      "normalized_mean_squared_error": .double(normalizedMeanSquaredError),
      "weighted_error": weightedError.map { .double($0) },
      "maximum_absolute_error": .double(maximumAbsoluteError),
      "least_cosine_similarity": .double(minimumCosineSimilarity),
      "worst_tensor": worstTensor.map { .string($0.name) } ?? .null,
    ])
  }
}

extension ErrorStatistics {
  /// As listings and events show them.
  var json: JSONValue {
    .object([
      "normalized_mean_squared_error": .double(normalizedMeanSquaredError),
      "maximum_absolute_error": .double(maximumAbsoluteError),
      "cosine_similarity": .double(cosineSimilarity),
      "weighted_error": weightedError.map { .double($0) },
    ])
  }
}
