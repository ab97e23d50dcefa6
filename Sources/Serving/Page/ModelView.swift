public import JSON
public import ModelFiles
import TensorCore

/// What `GET /inspect` tells of a slab, for the page and for programs: facts for people, sums by role, and
/// every tensor with its error.
public enum ModelView {
  public static func json(of slab: Slab) -> JSONObject {
    let listing = ModelListing(slab)
    return [
      "facts": .object(facts(listing, slab)), "roles": .array(listing.roles.map(json)),
      "tensors": .array(listing.tensors.map(json)),
    ]
  }

  private static func facts(_ listing: ModelListing, _ slab: Slab) -> JSONObject {
    let (facts, total) = (listing.facts, listing.total)
    var result: JSONObject = [
      "weights": .integer(total.parameterCount), "bits per weight": bits(total),
      "bytes": .integer(listing.fileByteCount), "layers": facts.layerCount.map { .integer($0) },
      "context": facts.contextLength.map { .integer($0) },
      "vocabulary": facts.vocabularySize.map { .integer($0) },
      "profile": .string(slab.profile.name), "root digest": .string("\(slab.rootDigest)"),
    ]
    for key in ["recipe", "calibration"] {
      if let text = slab.metadata[key] { result[key] = .string(text) }
    }
    return result
  }

  private static func json(_ group: TensorGroup) -> JSONValue {
    .object([
      "role": .string(group.name), "tensors": .integer(group.tensorCount),
      "encodings": .array(group.encodings.map { .string($0.name) }),
      "weights": .integer(group.parameterCount), "bits_per_weight": bits(group),
      "bytes": .integer(group.logicalByteCount),
    ])
  }

  private static func json(_ tensor: ListedTensor) -> JSONValue {
    .object([
      "name": .string(tensor.name), "role": .string(tensor.role),
      "layer": tensor.layer.map { .integer($0) } ?? .null, "encoding": .string(tensor.encoding),
      "shape": .array(tensor.shape.map { .integer($0) }),
      "bytes": .integer(tensor.logicalByteCount),
      "nmse": tensor.statistics.map { .double($0.normalizedMeanSquaredError) } ?? .null,
    ])
  }

  /// To three digits behind the point; null for column scales, which are no weights.
  private static func bits(_ group: TensorGroup) -> JSONValue {
    group.bitsPerWeight.map { .double(($0 * 1000).rounded() / 1000) } ?? .null
  }
}
