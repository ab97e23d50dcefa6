import ArgumentParser
import Foundation
import Inference
import ModelFiles
import QuarryKit
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
      "Memory of the KV cache, and of states, of all sequences: 4GiB (default: what all slots can use, at most three "
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
  ///   - id: the model's name, with its owner; nil to name it after the file.
  ///   - count: models that share the memory.
  ///   - maxQueue: requests that may wait for a slot.
  ///   - allowsRequestTemplates: whether requests may bring templates of their own.
  func load(
    _ argument: SlabArgument, id: String? = nil, among count: Int = 1, maxQueue: Int,
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
        cacheTiles: try cacheTiles(loaded, context: context, among: count)))
    return try ServedModel(
      engine: engine, id: id ?? argument.modelID, version: "\(slab.rootDigest)",
      listing: ModelView.json(of: slab),
      allowsRequestTemplates: allowsRequestTemplates)
  }

  /// Tiles of the KV cache: what all slots can use, as far as there is memory for it.
  private func cacheTiles(_ model: Model, context: Int, among count: Int) throws -> Int {
    let perSlot = CacheBudget.tileCount(context, of: model, cache.kv)
    let byteCount = CacheBudget.tileByteCount(model, cache.kv)
    let (wanted, overflow) = perSlot.multipliedReportingOverflow(by: slots)
    let total = kvMemory?.byteCount ?? SystemMemory.availableByteCount.map { $0 / 4 * 3 } ?? .max
    let memory = total / count
    let tiles = min(overflow ? .max : wanted, memory / max(1, byteCount))
    if tiles < perSlot {
      throw InputError(
        "the KV cache of one context of \(context) tokens takes "
          + "\(Format.bytes(byteCount.multipliedReportingOverflow(by: perSlot).partialValue)), and "
          + "there may be \(Format.bytes(memory))\(count > 1 ? " for each model" : ""); give a smaller --context"
          + (kvMemory == nil ? "" : " or a larger --kv-memory"))
    }
    return tiles
  }
}

/// A model to serve, as `NAME=SLAB` or `OWNER/NAME=SLAB`.
struct NamedSlab: ExpressibleByArgument {
  /// `owner/name`.
  let id: String
  let slab: SlabArgument

  init?(argument: String) {
    guard
      let match = argument.wholeMatch(
        of: /(?:(?<owner>[A-Za-z0-9._-]+)\/)?(?<name>[A-Za-z0-9._-]+)=(?<path>.+)/)
    else { return nil }
    id = "\(match.owner ?? "local")/\(match.name)"
    slab = SlabArgument(slab: String(match.path))
  }
}

extension SlabArgument {
  /// How a model is called that nobody named.
  var modelID: String {
    "local/"
      + (slab.map { URL(filePath: $0).deletingPathExtension().lastPathComponent } ?? "pebble")
  }
}
