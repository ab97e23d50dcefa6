import Conversion
import Foundation
import Inference
import ModelFiles
import TensorCore

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
