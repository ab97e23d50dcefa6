import ModelFiles
import TensorCore

extension GGUFTensorPlan {
  /// What becomes of a tensor of a Mamba2 layer; nil for any other. `published` is its name within the
  /// layer.
  ///
  /// llama.cpp keeps the rate −e^A_log itself, heads as rows of one value, and a norm as a row for each
  /// group.
  static func mamba(
    _ tensor: SlabTensor, _ published: String, _ prefix: String, _ sizes: MambaShape,
    _ type: RowEncoding
  ) -> GGUFTensorPlan? {
    var shape = tensor.shape
    var encode = encoding(of: tensor, type).encode
    let name: String
    switch published {
    case "mamba.in_proj.weight": name = "ssm_in.weight"
    case "mamba.out_proj.weight": name = "ssm_out.weight"
    case "mamba.conv1d.weight": (name, shape) = ("ssm_conv1d.weight", [shape[0], shape[2]])
    case "mamba.conv1d.bias": name = "ssm_conv1d.bias"
    case "mamba.dt_bias": name = "ssm_dt.bias"
    case "mamba.D": (name, shape) = ("ssm_d", shape + [1])
    case "mamba.A_log":
      (name, shape) = ("ssm_a", shape + [1])
      encode = { row, columns, destination in
        let rates = destination.assumingMemoryBound(to: Float.self)
        for head in 0..<columns { rates[head] = -Float(PortableMath.exp(Double(row[head]))) }
        return (0..<columns).first { !rates[$0].isFinite }
      }
    case "mamba.norm.weight":
      (name, shape) = (
        "ssm_norm.weight", [sizes.groupCount, sizes.innerSize / sizes.groupCount]
      )
    default: return nil
    }
    return GGUFTensorPlan(
      name: prefix + name, tensor: tensor, encoding: encoding(of: tensor, type),
      shape: shape, rows: nil, source: { $0 }, encode: encode)
  }
}
