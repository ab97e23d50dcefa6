import ArgumentParser
import Foundation
import Inference
import ModelFiles
import Serving
import TensorCore

/// How a model is shared among many requests.
struct ServingOptions: ParsableArguments {
  @Option(help: "Sequences that are computed together.")
  var slots = 4
  @Option(help: "Tokens of context of each sequence (default: what the model was made for).")
  var context: Int?
  @Option(
    help: ArgumentHelp(
      "Memory of the KV cache of all sequences: 4GiB (default: what all slots can use, at most three "
        + "quarters of the memory that is available).", valueName: "size"))
  var kvMemory: FileSize?
  @OptionGroup var runtime: RuntimeOptions
  @OptionGroup var loading: LoadingOptions
  @OptionGroup var cache: CacheOptions

  func validate() throws {
    guard (1...256).contains(slots) else {
      throw ValidationError("--slots must be from 1 to 256, not \(slots).")
    }
    if let context, context < 1 {
      throw ValidationError("--context must be at least 1, not \(context).")
    }
  }

  /// - Parameters:
  ///   - argument: the slab.
  ///   - aliases: other names that reach the model.
  ///   - maxQueue: requests that may wait for a slot.
  ///   - allowsRequestTemplates: whether requests may bring templates of their own.
  func load(
    _ argument: SlabArgument, aliases: [String] = [], maxQueue: Int,
    allowsRequestTemplates: Bool = false, isCancelled: @escaping @Sendable () -> Bool
  ) throws -> ServedModel {
    let pool = runtime.makePool()
    let slab = try argument.open(pool: pool, isCancelled: isCancelled)
    let loaded = try loading.load(slab, pool: pool, kernels: try Kernels.selected())
    let limit = loaded.configuration.contextLength
    if let context, context > limit {
      throw InferenceError.contextLength(requested: context, limit: limit)
    }
    let context = context ?? limit
    let engine = try Engine(
      model: loaded,
      configuration: EngineConfiguration(
        slots: slots, contextLength: context, cacheType: cache.kv, maxQueue: maxQueue,
        cacheTiles: try cacheTiles(loaded, context: context)))
    let name = argument.slab.map {
      URL(filePath: $0).deletingPathExtension().lastPathComponent
    }
    return try ServedModel(
      engine: engine, name: name ?? "pebble", aliases: aliases, version: "\(slab.rootDigest)",
      listing: ModelView.json(of: slab),
      allowsRequestTemplates: allowsRequestTemplates)
  }

  /// Tiles of the KV cache: what all slots can use, as far as there is memory for it.
  private func cacheTiles(_ model: Model, context: Int) throws -> Int {
    let perSlot = CacheBudget.tileCount(context)
    let byteCount = CacheBudget.tileByteCount(model, cache.kv)
    let (wanted, overflow) = perSlot.multipliedReportingOverflow(by: slots)
    let memory = kvMemory?.byteCount ?? SystemMemory.availableByteCount.map { $0 / 4 * 3 } ?? .max
    let tiles = min(overflow ? .max : wanted, memory / max(1, byteCount))
    if tiles < perSlot {
      throw InputError(
        "the KV cache of one context of \(context) tokens takes "
          + "\(Format.bytes(byteCount.multipliedReportingOverflow(by: perSlot).partialValue)), and "
          + "there may be \(Format.bytes(memory)); give a smaller --context"
          + (kvMemory == nil ? "" : " or a larger --kv-memory"))
    }
    return tiles
  }
}
