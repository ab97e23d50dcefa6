import ModelFiles

extension GGUFTensorPlan {
  /// What becomes of a router, or of the matrices of all experts, whichever names they have; nil for any
  /// other tensor. `name` is that within the layer.
  ///
  /// llama.cpp keeps gate and up rows of the experts apart.
  static func experts(
    _ tensor: SlabTensor, _ name: String, _ prefix: String, _ experts: ExpertConfiguration,
    _ type: RowEncoding
  ) -> [GGUFTensorPlan]? {
    switch name {
    case experts.router: [GGUFTensorPlan(prefix + "ffn_gate_inp.weight", tensor, type)]
    case experts.gateUp:
      halves(
        of: tensor, [prefix + "ffn_gate_exps.weight", prefix + "ffn_up_exps.weight"], type)
    case experts.down: [GGUFTensorPlan(prefix + "ffn_down_exps.weight", tensor, type)]
    default: nil
    }
  }
}
