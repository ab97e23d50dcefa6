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
    let encoding = encoding(of: tensor, type)
    func plan(
      _ name: String, rows: Range<Int>? = nil,
      source: @escaping @Sendable (Int) -> Int = { $0 }
    ) -> GGUFTensorPlan {
      let shape = rows.map { [$0.count] + tensor.shape.dropFirst() } ?? tensor.shape
      return GGUFTensorPlan(
        name: name, tensor: tensor, encoding: encoding, shape: shape, rows: rows, source: source,
        encode: encoding.encode)
    }
    guard let layer = TensorRole.layer(ofTensor: tensor.name) else {
      return [plan(outerNames[tensor.name]!)]
    }
    if let plan = configuration.mamba.flatMap({ mamba(tensor, layer: layer, $0, type) }) {
      return [plan]
    }
    let parts = tensor.name.split(separator: ".")
    let (module, kind) = (String(parts[parts.count - 2]), parts.last!)
    func name(_ module: String) -> String { "blk.\(layer).\(module).\(kind)" }
    if module == "input_linear" {
      let half = configuration.intermediateSize
      return [
        plan(name("ffn_gate"), rows: 0..<half),
        plan(name("ffn_up"), rows: 0..<half, source: { half + $0 }),
      ]
    }
    guard configuration.usesRotaryPositions, module == "q_proj" || module == "k_proj" else {
      return [plan(name(layerNames[module]!))]
    }
    let headSize = configuration.headSize
    guard tensor.shape.count > 1 else {
      return [
        GGUFTensorPlan(
          name: name(layerNames[module]!), tensor: tensor, encoding: encoding, shape: tensor.shape,
          rows: nil, source: { $0 },
          encode: { row, columns, destination in
            let elements = destination.assumingMemoryBound(to: Float.self)
            for column in 0..<columns {
              elements[column] = row[adjacentPairs(column, headSize: headSize)]
            }
            return (0..<columns).first { !row[$0].isFinite }
          })
      ]
    }
    return [
      plan(name(layerNames[module]!), source: { adjacentPairs($0, headSize: headSize) })
    ]
  }

  /// llama.cpp rotates rows 2 j and 2 j + 1 of a head together, the checkpoint j and j + headSize / 2.
  private static func adjacentPairs(_ row: Int, headSize: Int) -> Int {
    let index = row % headSize
    return row - index + (index % 2) * (headSize / 2) + index / 2
  }

  static func encoding(of tensor: SlabTensor, _ type: RowEncoding) -> RowEncoding {
    guard TensorRole(tensorName: tensor.name)?.isMatrix == true else { return .f32 }
    return type == .q8 && tensor.shape.last! % RowEncoding.blockSize != 0 ? .f16 : type
  }

  private static let outerNames = [
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
  ]
  private static let layerNames = [
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "q_proj": "attn_q",
    "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate",
    "up_proj": "ffn_up", "down_proj": "ffn_down", "output_linear": "ffn_down",
  ]
}

extension RowEncoding {
  var ggufType: GGUFType {
    let ids: [RowEncoding: UInt32] = [.f32: 0, .f16: 1, .q8: 8, .bf16: 30]
    return GGUFType(id: ids[self]!)!
  }

  /// `general.file_type` of a file whose matrices are of this type.
  var ggufFileType: UInt32 {
    switch self {
    case .f32: 0
    case .f16: 1
    case .q8: 7
    case .bf16: 32
    }
  }
}
