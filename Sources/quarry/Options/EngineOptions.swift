import ArgumentParser
import Inference
import ModelFiles
import TensorCore

/// How a model is run.
struct EngineOptions: ParsableArguments {
  @OptionGroup var runtime: RuntimeOptions
  @Option(help: "Tokens of context to keep room for (default: what the model was made for).")
  var context: Int?
  @Option(help: "int8: activations are quantized too; f32: slow and exact, to tell errors apart.")
  var activations = ActivationPrecision.int8
  @OptionGroup var loading: LoadingOptions
  @OptionGroup var cache: CacheOptions

  /// Loads the model, with progress where that takes time, and warns before it if it will not fit.
  func load(_ argument: SlabArgument) throws -> Model {
    let pool = runtime.makePool()
    let kernels = try Kernels.selected()
    let slab = try argument.open(pool: pool)
    try warnAboutMemory(slab)
    return try loading.load(slab, pool: pool, kernels: kernels)
  }

  func makeSession(_ model: Model) throws -> Session {
    let session = try Session(
      model: model, contextLength: context, activations: activations, cacheType: cache.kv)
    session.isCancelled = { Interrupt.isRequested }
    return session
  }

  private func warnAboutMemory(_ slab: Slab) throws {
    let needed = try MemoryPrediction(
      slab: slab, contextLength: context, cacheType: cache.kv
    ).total
    guard let available = SystemMemory.availableByteCount, needed > available else { return }
    Console.warn(
      "weights and a full KV cache take \(Format.bytes(needed)), and \(Format.bytes(available)) of "
        + "memory are available; give a smaller --context or close other programs")
  }
}

/// How weights get into memory.
struct LoadingOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "map: use the pages of the file; copy: read it into huge pages.", valueName: "map|copy"))
  var load = WeightLoading.map

  /// Loads a model, with progress where that takes time.
  func load(_ slab: Slab, pool: WorkerPool, kernels: Kernels) throws -> Model {
    let progress = Progress("loading")
    defer { progress.finish() }
    return try Model(slab: slab, loading: load, pool: pool, kernels: kernels) {
      progress.update($0, of: $1)
    }
  }
}
