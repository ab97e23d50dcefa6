public import JSON
public import ModelFiles
import TensorCore

/// What `GET /inspect` tells of a slab, for the page and for programs: facts for people, and every
/// tensor with its error.
public enum ModelView {
  public static func json(of slab: Slab, _ configuration: ModelConfiguration) -> JSONObject {
    let tensors = slab.tensorsInFileOrder
    let matrices = tensors.filter { TensorRole(tensorName: $0.name)?.isMatrix == true }
    let weights = matrices.reduce(0) { $0 + $1.elementCount }
    let bytes = tensors.reduce(0) { $0 + $1.logicalByteCount }
    let bits = (8000 * Double(bytes) / Double(max(1, weights))).rounded() / 1000
    var facts: JSONObject = [
      "weights": .integer(weights), "bits per weight": .double(bits),
      "bytes": .integer(slab.fileByteCount), "layers": .integer(configuration.layerCount),
      "context": .integer(configuration.contextLength),
      "vocabulary": .integer(configuration.vocabularySize),
      "profile": .string(slab.profile.name),
      "root digest": .string("\(slab.rootDigest)"),
    ]
    for key in ["recipe", "calibration"] {
      if let text = slab.metadata[key] { facts[key] = .string(text) }
    }
    return ["facts": .object(facts), "tensors": .array(tensors.map(json))]
  }

  private static func json(_ tensor: SlabTensor) -> JSONValue {
    .object([
      "name": .string(tensor.name),
      "role": .string(TensorRole(tensorName: tensor.name)?.rawValue ?? "other"),
      "layer": TensorRole.layer(ofTensor: tensor.name).map { .integer($0) } ?? .null,
      "encoding": .string(tensor.encoding.name),
      "shape": .array(tensor.shape.map { .integer($0) }),
      "bytes": .integer(tensor.logicalByteCount),
      "nmse": tensor.statistics.map { .double($0.normalizedMeanSquaredError) } ?? .null,
    ])
  }
}
