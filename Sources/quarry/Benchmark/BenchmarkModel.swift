import Conversion
import Foundation
import Inference
import ModelFiles
import TensorCore

/// Shapes of published models that can be benchmarked without their weights.
enum BenchmarkShape: String, CaseIterable {
  /// Of granite-3.3-2b-instruct.
  case twoBillion = "2b"
  /// Of granite-3.3-8b-instruct.
  case eightBillion = "8b"

  var configurationJSON: String {
    let (hidden, heads, intermediate, vocabulary, attention) =
      switch self {
      case .twoBillion: (2048, 32, 8192, 49155, 0.015625)
      case .eightBillion: (4096, 32, 12800, 49159, 0.0078125)
      }
    return """
      {"architectures": ["GraniteForCausalLM"], "model_type": "granite", "hidden_size": \(hidden),
      "num_hidden_layers": 40, "num_attention_heads": \(heads), "num_key_value_heads": 8,
      "intermediate_size": \(intermediate), "vocab_size": \(vocabulary),
      "max_position_embeddings": 131072, "rope_theta": 10000000.0, "rms_norm_eps": 1e-05,
      "hidden_act": "silu", "tie_word_embeddings": true, "embedding_multiplier": 12.0,
      "attention_multiplier": \(attention), "residual_multiplier": 0.22, "logits_scaling": 8.0,
      "eos_token_id": 0, "bos_token_id": 0, "pad_token_id": 0}
      """
  }
}

/// A model to be benchmarked, loaded, and what to call it.
struct BenchmarkModel {
  let name: String
  /// Nil for a slab made by something else.
  let recipe: String?
  let model: Model
  /// Streams of all matrices.
  let weightByteCount: Int
  let loadTime: Duration

  init(_ slab: Slab, name: String, loading: LoadingOptions, pool: WorkerPool) throws {
    self.name = name
    let start = ContinuousClock.now
    recipe = slab.metadata["recipe"]
    weightByteCount = slab.tensors.reduce(0) { $0 + $1.logicalByteCount }
    model = try loading.load(slab, pool: pool, kernels: .selected())
    loadTime = ContinuousClock.now - start
  }

  /// Random weights in memory.
  init(configuration json: [UInt8], name: String, recipe: Recipe, pool: WorkerPool) throws {
    self.name = name
    self.recipe = recipe.name
    let configuration = try ModelConfiguration(json: json)
    let weights = try RandomWeights(configuration, recipe: recipe)
    weightByteCount = weights.byteCount
    if let available = SystemMemory.availableByteCount, weightByteCount > available {
      throw InputError(
        "the weights take \(Format.bytes(weightByteCount)), and \(Format.bytes(available)) of memory "
          + "are available")
    }
    let progress = Progress("making weights")
    defer { progress.finish() }
    let start = ContinuousClock.now
    model = try Model(
      weights: weights, assets: ModelAssets(configuration: configuration), pool: pool,
      kernels: .selected()
    ) { progress.update($0, of: $1) }
    loadTime = ContinuousClock.now - start
  }
}
