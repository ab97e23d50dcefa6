import Foundation
import ModelFiles
import TestSupport

/// A Granite checkpoint of random weights, large enough for work on it to take a while.
enum SyntheticCheckpoint {
  static func make(in directory: URL, layers: Int, hiddenSize h: Int) throws -> URL {
    let checkpoint = directory.appending(path: "checkpoint")
    try FileManager.default.createDirectory(at: checkpoint, withIntermediateDirectories: true)
    let configuration = """
      {"architectures": ["GraniteForCausalLM"], "model_type": "granite", "torch_dtype": "float32",
      "attention_bias": false, "mlp_bias": false, "hidden_act": "silu", "hidden_size": \(h),
      "intermediate_size": \(4 * h), "num_attention_heads": 4, "num_key_value_heads": 4,
      "num_hidden_layers": \(layers), "vocab_size": 64, "max_position_embeddings": 128,
      "rms_norm_eps": 1e-5, "rope_theta": 10000, "rope_scaling": null, "tie_word_embeddings": true,
      "embedding_multiplier": 12, "attention_multiplier": 0.1, "residual_multiplier": 0.2,
      "logits_scaling": 4, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
      """
    try Data(configuration.utf8).write(to: checkpoint.appending(path: "config.json"))
    var shapes = [("model.embed_tokens.weight", [64, h]), ("model.norm.weight", [h])]
    for layer in 0..<layers {
      let prefix = "model.layers.\(layer)."
      for name in ["q", "k", "v", "o"] {
        shapes.append((prefix + "self_attn.\(name)_proj.weight", [h, h]))
      }
      for name in ["gate", "up"] {
        shapes.append((prefix + "mlp.\(name)_proj.weight", [4 * h, h]))
      }
      shapes.append((prefix + "mlp.down_proj.weight", [h, 4 * h]))
      for name in ["input", "post_attention"] {
        shapes.append((prefix + "\(name)_layernorm.weight", [h]))
      }
    }
    // One block of noise serves every tensor: what the weights are does not matter here.
    var generator = SplitMix64(seed: 1)
    let noise = (0..<4 * h * h).map { _ in
      Float(Int32(truncatingIfNeeded: generator.next())) * 1e-11
    }
    try SafetensorsWriter.write(
      path: checkpoint.appending(path: "model.safetensors").path,
      tensors: shapes.map { ($0.0, $0.1, Array(noise[..<$0.1.reduce(1, *)])) })
    return checkpoint
  }
}
