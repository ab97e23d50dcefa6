import Inference
import JSON
import ModelFiles
import TensorCore
import TestSupport

/// A random model in memory, small enough for any test.
struct TinyModel: WeightSource {
  var configuration: ModelConfiguration
  var vectors: [String: [Float]] = [:]
  var matrices: [String: WeightMatrix] = [:]
  /// Of tensors of three dimensions.
  var experts: [String: [WeightMatrix]] = [:]
  var shapes: [String: [Int]] = [:]

  let path = "tiny"

  func shape(ofTensor name: String) -> [Int]? { shapes[name] }
  func matrices(named name: String, pool: WorkerPool) -> [WeightMatrix] {
    experts[name] ?? [matrices[name]!]
  }
  func vector(named name: String) -> [Float] { vectors[name]! }

  /// Settings of a model most of whose layers are Mamba2, with odd sizes.
  static let hybrid: [String: JSONValue] = [
    "model_type": "granitemoehybrid", "num_local_experts": 0, "num_hidden_layers": 3,
    "layer_types": .array(["mamba", "attention", "mamba"]), "shared_intermediate_size": 56,
    "position_embedding_type": "nope", "mamba_expand": 3, "mamba_n_heads": 6, "mamba_n_groups": 2,
    "mamba_d_state": 13, "mamba_d_conv": 4,
  ]

  /// Settings of a GPT BigCode.
  static let bigCode: [String: JSONValue] = [
    "model_type": "gpt_bigcode", "n_embd": 40, "n_head": 4, "n_layer": 2, "n_inner": 56,
    "n_positions": 600, "activation_function": "gelu_pytorch_tanh",
  ]

  /// - Parameters:
  ///   - settings: members of config.json, in place of the default ones.
  ///   - encodings: taken in turn by the matrices.
  init(
    _ settings: [String: JSONValue] = [:], encodings: [BlockEncoding] = [.f32], seed: UInt64 = 1
  ) throws {
    var config = JSONObject([
      ("model_type", "granite"), ("hidden_size", 40), ("intermediate_size", 56),
      ("num_hidden_layers", 2), ("num_attention_heads", 4), ("num_key_value_heads", 2),
      ("head_dim", 20), ("vocab_size", 307), ("max_position_embeddings", 600),
      ("rope_theta", 10000), ("tie_word_embeddings", true), ("eos_token_id", 0),
      ("embedding_multiplier", 6.0), ("attention_multiplier", 0.2),
      ("residual_multiplier", 0.4), ("logits_scaling", 0.5),
    ])
    for (name, value) in settings { config[name] = value }
    configuration = try ModelConfiguration(json: Array(JSONValue.object(config).serialized().utf8))
    var random = SplitMix64(seed: seed)
    for (name, shape) in configuration.expectedTensors {
      shapes[name] = shape
      if TensorRole(tensorName: name)?.isMatrix == false {
        let mean: Float = name.contains("norm") ? 1 : 0
        vectors[name] = (0..<shape.reduce(1, *)).map { _ in random.normal() * 0.2 + mean }
      } else {
        let encoding = encodings[(matrices.count + experts.count) % encodings.count]
        let form = MatrixForm(shape: shape)!
        let deviation = 1 / Float(form.geometry.columns).squareRoot()
        let made = (0..<form.count).map { _ in
          encoding == .f32
            ? WeightMatrix.packed(form.geometry) { _, _ in random.normal() * deviation }
            : .random(form.geometry, encoding: encoding, using: &random)
        }
        if shape.count == 3 { experts[name] = made } else { matrices[name] = made[0] }
      }
    }
  }

  var assets: ModelAssets { ModelAssets(configuration: configuration) }

  func model(
    threads: Int = 2, kernels: Kernels = Kernels(.scalar), assets: ModelAssets? = nil
  ) throws -> Model {
    try Model(
      weights: self, assets: assets ?? self.assets, pool: WorkerPool(threadCount: threads),
      kernels: kernels)
  }
}

extension WeightMatrix {
  /// An f32 matrix of the given elements.
  static func packed(
    _ geometry: PanelGeometry, _ element: (_ row: Int, _ column: Int) -> Float
  ) -> WeightMatrix {
    let buffer = AlignedBuffer(byteCount: geometry.byteCount(of: .elements, in: .f32))
    for row in 0..<geometry.rows {
      for column in 0..<geometry.columns {
        let offset = geometry.elementOffset(row: row, column: column, elementBytes: 4)
        buffer.base.storeBytes(of: element(row, column), toByteOffset: offset, as: Float.self)
      }
    }
    return WeightMatrix(
      encoding: .f32, geometry: geometry, streams: [.elements: buffer.bytes], owners: [buffer])
  }

  /// A matrix of random bytes in every stream, scales and elements included.
  static func garbage(
    _ geometry: PanelGeometry, encoding: BlockEncoding, using random: inout SplitMix64
  ) -> WeightMatrix {
    WeightMatrix(geometry, encoding, randomStreams(geometry, encoding, using: &random))
  }

  /// A quantized matrix of random codes, whose weights have about the variance 1 / columns.
  static func random(
    _ geometry: PanelGeometry, encoding: BlockEncoding, using random: inout SplitMix64
  ) -> WeightMatrix {
    let streams = randomStreams(geometry, encoding, using: &random)
    // A block scale's square is about 5400 on average, a code or codebook entry about 74.
    let scale = 1 / Float(geometry.columns).squareRoot() / 5400 / 74
    for row in 0..<geometry.paddedRows {
      streams[.rowScales]!.floats[row] = row < geometry.rows ? scale : 0
    }
    return WeightMatrix(geometry, encoding, streams)
  }

  private static func randomStreams(
    _ geometry: PanelGeometry, _ encoding: BlockEncoding, using random: inout SplitMix64
  ) -> [StreamKind: AlignedBuffer] {
    var streams: [StreamKind: AlignedBuffer] = [:]
    for kind in encoding.streams {
      let buffer = AlignedBuffer(byteCount: geometry.byteCount(of: kind, in: encoding))
      for index in 0..<buffer.byteCount {
        buffer.base.storeBytes(
          of: UInt8.random(in: 0...255, using: &random), toByteOffset: index, as: UInt8.self)
      }
      streams[kind] = buffer
    }
    return streams
  }

  private init(
    _ geometry: PanelGeometry, _ encoding: BlockEncoding, _ streams: [StreamKind: AlignedBuffer]
  ) {
    self.init(
      encoding: encoding, geometry: geometry, streams: streams.mapValues(\.bytes),
      owners: Array(streams.values))
  }
}
