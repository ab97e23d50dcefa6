import Foundation
import Inference
import JSON
import ModelFiles
import TensorCore
import TestSupport
import Tokenization

/// A model that answers every chat with the same pieces, each a token, and then ends: embeddings are
/// unit vectors, the layers add nothing, and the output projection wants after every token the next.
struct ScriptedModel: WeightSource {
  let path = "scripted"
  private let configuration: ModelConfiguration
  /// Columns of the embedding, and its rows, of which those after `last` stand for nothing.
  private let size, last: Int
  /// Ids 0 to 255 are bytes, 256 ends, 257 begins the answer.
  private static let end = 256

  /// - Parameters:
  ///   - special: pieces that are special tokens.
  ///   - template: shows tools and earlier calls unless given.
  ///   - golden: a golden checkpoint whose layers it has, without their weights.
  static func make(
    _ pieces: [String], special: Set<String> = [], template: String = defaultTemplate,
    layersOf golden: String = "llama"
  ) throws -> Model {
    let source = try ScriptedModel(tokenCount: end + 2 + pieces.count, layersOf: golden)
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

  private init(tokenCount: Int, layersOf golden: String) throws {
    let path = Place.goldens.appending(path: "checkpoints/\(golden)/config.json")
    var config = try JSONSerialization.jsonObject(with: Data(contentsOf: path)) as! [String: Any]
    last = tokenCount - 1
    // Heads of all kinds divide it.
    size = (tokenCount + 191) / 192 * 192
    for name in ["hidden_size", "n_embd"] where config[name] != nil { config[name] = size }
    for name in ["max_position_embeddings", "n_positions"] where config[name] != nil {
      config[name] = 4096
    }
    if let width = config["mamba_d_head"] as? Int, let factor = config["mamba_expand"] as? Int {
      config["mamba_n_heads"] = factor * size / width
    }
    config.merge(
      ["vocab_size": size, "tie_word_embeddings": false, "logits_scaling": 1]
    ) { $1 }
    configuration = try ModelConfiguration(
      json: Array(JSONSerialization.data(withJSONObject: config)))
  }

  private var shapes: [String: [Int]] {
    Dictionary(uniqueKeysWithValues: configuration.expectedTensors.map { ($0, $1) })
  }

  func shape(ofTensor name: String) -> [Int]? { shapes[name] }
  /// Norms scale by 1, everything else is nothing.
  func vector(named name: String) -> [Float] {
    let isNorm = name.hasSuffix(".weight") && (name.contains("norm") || name.contains("ln_"))
    return Array(repeating: isNorm ? 1 : 0, count: shapes[name]!.reduce(1, *))
  }

  func matrices(named name: String, pool: WorkerPool) -> [WeightMatrix] {
    let shape = shapes[name]!
    let geometry = PanelGeometry(rows: shape[shape.count - 2], columns: shape.last!)!
    let buffer = AlignedBuffer(byteCount: geometry.byteCount(of: .elements, in: .f32))
    func set(_ row: Int, _ column: Int, _ value: Float) {
      let offset = geometry.elementOffset(row: row, column: column, elementBytes: 4)
      buffer.base.storeBytes(of: value, toByteOffset: offset, as: Float.self)
    }
    for token in 0...last {
      if name == configuration.embeddingName { set(token, token, 1) }
      if name == "lm_head.weight" { set(token == last ? Self.end : token + 1, token, 4) }
    }
    let matrix = WeightMatrix(
      encoding: .f32, geometry: geometry, streams: [.elements: buffer.bytes], owners: [buffer])
    return Array(repeating: matrix, count: shape.count == 3 ? shape[0] : 1)
  }
}
