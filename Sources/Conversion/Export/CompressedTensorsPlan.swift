import JSON
import ModelFiles
import TensorCore

/// Which tensors of a slab compressed-tensors gets as bytes, and what config.json says about it.
///
/// Linear layers that have 8 bits in the slab have them there. All else is bfloat16: norms, what the
/// recipe left unquantized, and embedding and output projection, because they are one matrix in most
/// Granites, and programs that look rows up in packed bytes are few. So are experts and their router: in
/// transformers the matrices of a layer's experts are one parameter and no linear layer, which nothing
/// packed is read into, and vLLM has no name for packed ones that transformers knows.
struct CompressedTensorsPlan {
  private let quantized: Set<String>
  /// Modules that are not quantized, as config.json names them.
  private let ignored: [String]
  /// Whether transformers has to unpack while it loads.
  private let isLoadedDense: Bool

  /// - Throws: ``ExportError/unsupported(path:what:instead:)`` if a layer has 4 bits, or none has 8.
  init(_ slab: Slab, _ tensors: [SlabTensor]) throws(ExportError) {
    func refusal(_ what: String, _ instead: String) -> ExportError {
      .unsupported(path: slab.path, what: what, instead: instead)
    }
    let layers = tensors.filter { Self.isLinear($0) }
    if let tensor = layers.first(where: \.encoding.hasCodebook) {
      throw refusal(
        "\(tensor.name) is \(tensor.encoding.name), whose values lie on a codebook and not on "
          + "compressed-tensors' grid of integers",
        "convert the checkpoint with --recipe q8 for it, or write bf16 weights (--to safetensors)")
    }
    // vLLM joins matrices that read the same input; they are all quantized, or none is.
    let whole = Set(layers.filter { !Self.fits($0) }.map(Self.joint))
    quantized = Set(layers.filter { !whole.contains(Self.joint($0)) }.map(\.name))
    if quantized.isEmpty {
      throw refusal(
        "no linear layer has 8 bits",
        "write it as it is (--to safetensors), or convert the checkpoint with --recipe q8")
    }
    var ignored = ["lm_head"]  // there is such a module even where the embedding is also the output
    if tensors.contains(where: { TensorRole(tensorName: $0.name)?.isOfExperts == true }) {
      // To vLLM they are linear layers, with names of its own.
      ignored.append("re:.*\\.block_sparse_moe\\..*")
    }
    for tensor in layers where !quantized.contains(tensor.name) {
      ignored.append(String(tensor.name.dropLast(".weight".utf8.count)))
    }
    self.ignored = ignored
    // Its GPT BigCode asks projections for the weights that packed ones lack.
    isLoadedDense = tensors.contains { TensorRole(tensorName: $0.name) == .queryKeyValue }
  }

  func row(of tensor: SlabTensor) -> CompressedTensorsRow {
    CompressedTensorsRow(
      columns: tensor.shape.last ?? 1, isQuantized: quantized.contains(tensor.name))
  }

  /// The tensors that are written of one of the slab, in the order of their bytes.
  func files(of tensor: SlabTensor) -> [CheckpointWriter.Tensor] {
    guard quantized.contains(tensor.name) else { return [(tensor.name, tensor.shape, .bf16)] }
    let (rows, columns) = (tensor.shape[0], tensor.shape[1])
    return [
      (tensor.name + "_packed", [rows, columns / 4], .i32),
      (tensor.name + "_scale", [rows, columns / CompressedTensorsRow.groupSize], .bf16),
      (tensor.name + "_shape", [2], .i64),
    ]
  }

  /// The slab's small files; config.json with a description of the quantization.
  func assets(of slab: Slab) throws -> [SlabAsset] {
    try slab.assets.map { asset in
      guard asset.name == "config.json" else { return asset }
      guard case .object(var configuration) = try JSONValue(parsing: asset.bytes) else {
        throw ExportError.noConfiguration(path: slab.path)
      }
      configuration["quantization_config"] = description
      let text = JSONValue.object(configuration).serialized(indented: true) + "\n"
      return SlabAsset(name: asset.name, bytes: Array(text.utf8))
    }
  }

  private var description: JSONValue {
    func object(_ members: [(key: String, value: JSONValue)]) -> JSONValue {
      .object(JSONObject(members))
    }
    let weights = object([
      ("num_bits", .integer(8)), ("type", .string("int")), ("symmetric", .bool(true)),
      ("strategy", .string("group")), ("group_size", .integer(CompressedTensorsRow.groupSize)),
      ("dynamic", .bool(false)),
    ])
    let group = object([
      ("targets", .array([.string("Linear")])), ("weights", weights),
      ("input_activations", .null), ("output_activations", .null),
    ])
    let loading: [(key: String, value: JSONValue)] =
      isLoadedDense ? [("dequantize", .bool(true))] : []
    return object(
      [
        ("quant_method", .string("compressed-tensors")), ("format", .string("pack-quantized")),
        ("quantization_status", .string("compressed")),
        ("config_groups", object([("group_0", group)])),
        ("ignore", .array(ignored.map { .string($0) })),
      ] + loading)
  }

  /// A matrix of a layer, whose module is a linear one.
  private static func isLinear(_ tensor: SlabTensor) -> Bool {
    guard let role = TensorRole(tensorName: tensor.name) else { return false }
    return role.isMatrix && ![.embedding, .positions, .output, .router].contains(role)
      && tensor.shape.count == 2
  }

  private static func fits(_ tensor: SlabTensor) -> Bool {
    tensor.encoding.isQuantized && tensor.shape[1] % CompressedTensorsRow.groupSize == 0
  }

  /// The same text for matrices that are joined.
  private static func joint(_ tensor: SlabTensor) -> String {
    let role = TensorRole(tensorName: tensor.name)!
    let group = TensorRole.sharingInput.firstIndex { $0.contains(role) }
    let layer = TensorRole.layer(ofTensor: tensor.name)
    return group.map { "\($0) of \(layer ?? -1)" } ?? tensor.name
  }
}
