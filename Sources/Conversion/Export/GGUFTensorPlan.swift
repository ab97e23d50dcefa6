import ModelFiles
import TensorCore

/// A tensor of a GGUF file: which rows of which tensor of the slab it is.
struct GGUFTensorPlan: Sendable {
  let name: String
  let tensor: SlabTensor
  let encoding: RowEncoding
  let shape: [Int]
  /// Of this tensor; nil where all of them are one row.
  let rows: Range<Int>?
  /// The row of the slab's tensor that becomes a row of this one.
  let source: @Sendable (Int) -> Int
  let encode: SlabRows.Encoder

  /// What becomes of a tensor that ``ModelConfiguration/expectedTensors`` lists.
  static func plans(
    for tensor: SlabTensor, _ configuration: ModelConfiguration, _ type: RowEncoding
  ) -> [GGUFTensorPlan] {
    guard let layer = TensorRole.layer(ofTensor: tensor.name) else {
      return [GGUFTensorPlan(outerNames[tensor.name]!, tensor, type)]
    }
    let parts = tensor.name.split(separator: ".").dropFirst(3)
    let name = parts.joined(separator: ".")
    let prefix = "blk.\(layer)."
    if let plan = configuration.mamba.flatMap({ mamba(tensor, name, prefix, $0, type) }) {
      return [plan]
    }
    if let plans = configuration.experts.flatMap({ experts(tensor, name, prefix, $0, type) }) {
      return plans
    }
    // The MLP that all tokens share has names of its own beside experts.
    let suffix = configuration.experts == nil ? "" : "_shexp"
    if name == "shared_mlp.input_linear.weight" {
      let names = ["ffn_gate", "ffn_up"].map { prefix + $0 + suffix + ".weight" }
      return halves(of: tensor, names, type)
    }
    if name == "shared_mlp.output_linear.weight" {
      return [GGUFTensorPlan(prefix + "ffn_down" + suffix + ".weight", tensor, type)]
    }
    let module = parts.dropLast().joined(separator: ".")
    let target = "\(prefix)\(layerNames[module]!).\(parts.last!)"
    let isRotated = ["self_attn.q_proj", "self_attn.k_proj"].contains(module)
    return configuration.usesRotaryPositions && isRotated
      ? [rotated(target, tensor, headSize: configuration.headSize, type)]
      : [GGUFTensorPlan(target, tensor, type)]
  }

  /// The first and the second half of the rows of a matrix, or of the matrix of each expert.
  static func halves(
    of tensor: SlabTensor, _ names: [String], _ type: RowEncoding
  ) -> [GGUFTensorPlan] {
    let encoding = encoding(of: tensor, type)
    var shape = tensor.shape
    let size = shape[shape.count - 2] / 2
    shape[shape.count - 2] = size
    let rows = 0..<shape.dropLast().reduce(1, *)
    return names.enumerated().map { half, name in
      GGUFTensorPlan(
        name: name, tensor: tensor, encoding: encoding, shape: shape, rows: rows,
        source: { ($0 / size * 2 + half) * size + $0 % size }, encode: encoding.encode)
    }
  }

  /// A projection to queries or keys, or its bias, with the features that are rotated together side by
  /// side.
  private static func rotated(
    _ name: String, _ tensor: SlabTensor, headSize: Int, _ type: RowEncoding
  ) -> GGUFTensorPlan {
    let encoding = encoding(of: tensor, type)
    guard tensor.shape.count > 1 else {
      return GGUFTensorPlan(
        name: name, tensor: tensor, encoding: encoding, shape: tensor.shape, rows: nil,
        source: { $0 },
        encode: { row, columns, destination in
          let elements = destination.assumingMemoryBound(to: Float.self)
          for column in 0..<columns {
            elements[column] = row[adjacentPairs(column, headSize: headSize)]
          }
          return (0..<columns).first { !row[$0].isFinite }
        })
    }
    return GGUFTensorPlan(
      name: name, tensor: tensor, encoding: encoding, shape: tensor.shape, rows: nil,
      source: { adjacentPairs($0, headSize: headSize) }, encode: encoding.encode)
  }

  /// llama.cpp rotates rows 2 j and 2 j + 1 of a head together, the checkpoint j and j + headSize / 2.
  private static func adjacentPairs(_ row: Int, headSize: Int) -> Int {
    let index = row % headSize
    return row - index + (index % 2) * (headSize / 2) + index / 2
  }

  /// As in llama.cpp, routers and positions are not rounded.
  static func encoding(of tensor: SlabTensor, _ type: RowEncoding) -> RowEncoding {
    guard let role = TensorRole(tensorName: tensor.name), role.isMatrix, role != .router,
      role != .positions
    else { return .f32 }
    return type == .q8 && tensor.shape.last! % RowEncoding.blockSize != 0 ? .f16 : type
  }
}

extension GGUFTensorPlan {
  /// All rows of a tensor, as they are.
  init(_ name: String, _ tensor: SlabTensor, _ type: RowEncoding) {
    let encoding = Self.encoding(of: tensor, type)
    self.init(
      name: name, tensor: tensor, encoding: encoding, shape: tensor.shape, rows: nil,
      source: { $0 }, encode: encoding.encode)
  }
}
