import Inference
import JSON
import ModelFiles
import TensorCore
import Tokenization

/// A model that answers every chat with the same pieces, each a token, and then ends: embeddings are
/// unit vectors, the layer adds nothing, and the output projection wants after every token the next.
struct ScriptedModel: WeightSource {
  let path = "scripted"
  private let configuration: ModelConfiguration
  private let size: Int
  /// Ids 0 to 255 are bytes, 256 ends, 257 begins the answer.
  private static let end = 256

  /// - Parameters:
  ///   - special: pieces that are special tokens.
  ///   - template: shows tools and earlier calls unless given.
  static func make(
    _ pieces: [String], special: Set<String> = [], template: String = defaultTemplate
  ) throws -> Model {
    let source = try ScriptedModel(size: end + 2 + pieces.count)
    var assets = ModelAssets(configuration: source.configuration)
    let words = ["<|end|>", "<|start|>"] + pieces
    let added = words.enumerated().map { index, word in
      JSONValue.object([
        "id": .integer(end + index), "content": .string(word), "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false,
        "special": .bool(index < 2 || special.contains(word)),
      ])
    }
    let byteLevel: JSONValue = .object([
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
    ])
    let vocabulary = JSONObject(byteAlphabet.enumerated().map { ($1, .integer($0)) })
    let tokenizer: JSONValue = .object([
      "version": "1.0", "truncation": .null, "padding": .null, "added_tokens": .array(added),
      "normalizer": .null, "pre_tokenizer": byteLevel, "post_processor": .null,
      "decoder": byteLevel,
      "model": .object([
        "type": "BPE", "dropout": .null, "unk_token": .null, "fuse_unk": false,
        "continuing_subword_prefix": .null, "end_of_word_suffix": .null, "byte_fallback": false,
        "vocab": .object(vocabulary), "merges": .array([]),
      ]),
    ])
    assets.tokenizer = .success(try Tokenizer(json: Array(tokenizer.serialized().utf8)))
    assets.chatTemplate = Result { try ChatTemplate(template) }
    assets.stopTokens = [TokenID(end)]
    return try Model(
      weights: source, assets: assets, pool: WorkerPool(threadCount: 1), kernels: .selected())
  }

  static let defaultTemplate = """
    {%- if tools %}{{ tools | tojson }}{% endif %}
    {%- for message in messages %}{{ message.role + ': ' + message.content }}
    {%- if message.tool_calls %}{{ message.tool_calls | tojson }}{% endif %}
    {%- endfor %}{% if thinking %}think{% endif %}
    {%- if add_generation_prompt %}<|start|>{% endif %}
    """

  /// The characters that the byte-level alphabet writes bytes as, in the order of the bytes.
  private static let byteAlphabet: [String] = {
    var next = 256
    return (0..<256).map { byte in
      let plain = (33...126).contains(byte) || (161...172).contains(byte) || byte >= 174
      if !plain { next += 1 }
      return String(Character(Unicode.Scalar(plain ? byte : next - 1)!))
    }
  }()

  private init(size: Int) throws {
    self.size = size
    let config: JSONValue = .object([
      "model_type": "llama", "hidden_size": .integer(size), "intermediate_size": 8,
      "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
      "vocab_size": .integer(size), "max_position_embeddings": 4096,
      "tie_word_embeddings": false, "hidden_act": "silu", "rms_norm_eps": 1e-5,
      "rope_theta": 10000,
    ])
    configuration = try ModelConfiguration(json: Array(config.serialized().utf8))
  }

  private var shapes: [String: [Int]] {
    Dictionary(uniqueKeysWithValues: configuration.expectedTensors.map { ($0, $1) })
  }

  func shape(ofTensor name: String) -> [Int]? { shapes[name] }
  func vector(named name: String) -> [Float] {
    Array(repeating: 1, count: shapes[name]![0])
  }

  func matrices(named name: String, pool: WorkerPool) -> [WeightMatrix] {
    let shape = shapes[name]!
    let geometry = PanelGeometry(rows: shape[0], columns: shape[1])!
    let buffer = AlignedBuffer(byteCount: geometry.byteCount(of: .elements, in: .f32))
    func set(_ row: Int, _ column: Int, _ value: Float) {
      let offset = geometry.elementOffset(row: row, column: column, elementBytes: 4)
      buffer.base.storeBytes(of: value, toByteOffset: offset, as: Float.self)
    }
    for token in 0..<size {
      if name.hasPrefix("model.embed") { set(token, token, 1) }
      if name.hasPrefix("lm_head") { set(token == size - 1 ? Self.end : token + 1, token, 4) }
    }
    return [
      WeightMatrix(
        encoding: .f32, geometry: geometry, streams: [.elements: buffer.bytes], owners: [buffer])
    ]
  }
}
