import JSON
import ModelFiles
import TensorCore

/// What `quarry diff` says.
struct DiffReport {
  let old: ModelListing
  let new: ModelListing
  let difference: ModelDifference

  /// formats/diff.md.
  var json: JSONValue {
    .object([
      "same_model": .bool(difference.isSameModel),
      "a": Self.json(old), "b": Self.json(new),
      "metadata": .array(
        difference.metadata.map { entry in
          .object([
            "key": .string(entry.key), "a": entry.old.map { .string($0) } ?? .null,
            "b": entry.new.map { .string($0) } ?? .null,
          ])
        }),
      "assets": .array(difference.assets.map(Self.json)),
      "tensors": .array(difference.tensors.map(Self.json)),
    ])
  }

  private static func json(_ model: ModelListing) -> JSONValue {
    .object([
      "path": .string(model.path),
      "kind": .string(model.slab == nil ? "checkpoint" : "slab"),
      "profile": model.slab.map { .string($0.profile.name) } ?? .null,
      "root_digest": model.slab.map { .string("\($0.rootDigest)") } ?? .null,
    ])
  }

  private static func json(_ asset: ModelDifference.Asset) -> JSONValue {
    let text =
      asset.isSame
      ? nil : asset.old.flatMap { old in asset.new.flatMap { TextDifference(old: old, new: $0) } }
    return .object([
      "name": .string(asset.name), "same": .bool(asset.isSame),
      "a_bytes": asset.old.map { .integer($0.count) } ?? .null,
      "b_bytes": asset.new.map { .integer($0.count) } ?? .null,
      "hunks": text.map { text in
        .array(
          text.hunks.map { hunk in
            .object([
              "a_line": .integer(hunk.oldLine), "b_line": .integer(hunk.newLine),
              "lines": .array(hunk.lines.map { .string($0.mark.rawValue + $0.text) }),
            ])
          })
      } ?? .null,
    ])
  }

  private static func json(_ tensor: ModelDifference.Tensor) -> JSONValue {
    func json(_ form: ModelDifference.Form?) -> JSONValue {
      guard let form else { return .null }
      return .object([
        "shape": .array(form.shape.map { .integer($0) }), "encoding": .string(form.encoding),
        "bytes": .integer(form.byteCount),
      ])
    }
    var (count, statistics): (Int?, ErrorStatistics?) = (nil, nil)
    if case .differing(let found, let figures) = tensor.relation {
      (count, statistics) = (found, figures)
    }
    return .object([
      "name": .string(tensor.name), "relation": .string(tensor.relationName),
      "a": json(tensor.old), "b": json(tensor.new),
      "reencoded": .bool(tensor.isReencoded), "moved": .bool(tensor.isMoved),
      "differing_values": count.map { .integer($0) } ?? .null,
      "nmse": statistics.map { .double($0.normalizedMeanSquaredError) } ?? .null,
      "max_error": statistics.map { .double($0.maximumAbsoluteError) } ?? .null,
      "cosine": statistics.map { .double($0.cosineSimilarity) } ?? .null,
    ])
  }
}

extension ModelDifference.Tensor {
  fileprivate var relationName: String {
    switch relation {
    case .identical: "identical"
    case .equal: "equal"
    case .differing: "differing"
    case .reshaped: "reshaped"
    case .removed: "only in a"
    case .added: "only in b"
    }
  }
}
