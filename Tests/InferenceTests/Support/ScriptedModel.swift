import Inference
import JSON
import ModelFiles
import TensorCore
import Tokenization

/// A model that says the same sentence again and again: after token n it wants n + 1, after the last
/// token 0, which ends.
///
/// Embeddings are unit vectors and the layer adds nothing, so that the output projection alone
/// decides.
enum ScriptedModel {
  /// Spelled in the byte-level alphabet; the pieces 4 and 5 are the two bytes of ö.
  static let pieces = [
    "<|end|>", "He", "llo", "Ġw", "Ã", "¶", "rld", "ĠST", "OP", "Ġmore", ".",
  ]

  /// - Parameter certainty: the logit of the wanted token; others have 0.
  static func make(certainty: Float = 32) throws -> Model {
    let count = pieces.count
    var tiny = try TinyModel([
      "model_type": "llama", "hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1,
      "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
      "vocab_size": .integer(count),
      "max_position_embeddings": 64, "tie_word_embeddings": false, "embedding_multiplier": 1.0,
      "residual_multiplier": 1.0, "logits_scaling": 1.0,
    ])
    for name in ["self_attn.o_proj", "mlp.down_proj"] {
      let key = "model.layers.0.\(name).weight"
      tiny.matrices[key] = .packed(tiny.matrices[key]!.geometry) { _, _ in 0 }
    }
    let geometry = PanelGeometry(rows: count, columns: 16)!
    tiny.matrices["model.embed_tokens.weight"] = .packed(geometry) { $0 == $1 ? 1 : 0 }
    // The norm of a unit vector of 16 elements is 4.
    tiny.matrices["lm_head.weight"] = .packed(geometry) { next, token in
      next == (token + 1) % count ? certainty / 4 : 0
    }
    tiny.vectors["model.norm.weight"] = Array(repeating: 1, count: 16)
    var assets = tiny.assets
    assets.tokenizer = .success(try tokenizer())
    assets.stopTokens = [0]
    return try tiny.model(assets: assets)
  }

  static func tokenizer() throws -> Tokenizer {
    let vocabulary = JSONValue.object(
      JSONObject(pieces.enumerated().map { ($1, .integer($0)) }))
    let byteLevel = #"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true}"#
    return try Tokenizer(
      json: Array(
        """
        {"version": "1.0", "truncation": null, "padding": null,
         "added_tokens": [{"id": 0, "content": "<|end|>", "single_word": false, "lstrip": false,
           "rstrip": false, "normalized": false, "special": true}],
         "normalizer": null, "pre_tokenizer": \(byteLevel), "post_processor": null,
         "decoder": \(byteLevel),
         "model": {"type": "BPE", "dropout": null, "unk_token": null, "fuse_unk": false,
           "continuing_subword_prefix": null, "end_of_word_suffix": null, "byte_fallback": false,
           "vocab": \(vocabulary.serialized()), "merges": []}}
        """.utf8))
  }
}
