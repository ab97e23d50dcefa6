public import ModelFiles
public import TensorCore
public import Tokenization

/// A model, ready to run: weights, configuration, tokenizer and template. Immutable, so that any
/// number of sessions share it.
public final class Model: Sendable {
  public let configuration: ModelConfiguration
  private let assets: ModelAssets
  /// The threads that compute; sessions of one model take turns at them.
  public let pool: WorkerPool
  public let kernels: Kernels
  let shape: ModelShape
  let decoder: Decoder

  /// Loads a slab with all threads of the pool.
  ///
  /// - Parameters:
  ///   - loading: whether raw matrices are used in the pages of the file or copied.
  ///   - progress: called now and then with the bytes of matrices that are ready and those of all.
  /// - Throws: ``InferenceError``, `SlabError`.
  public convenience init(
    slab: Slab, loading: WeightLoading = .map, pool: WorkerPool, kernels: Kernels,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws {
    let assets = try ModelAssets(slab: slab)
    // Before anything is decompressed:
    try ModelLoader.check(
      assets.configuration.resolved { slab.tensor(named: $0) != nil }, model: slab.path
    ) { slab.tensor(named: $0)?.shape }
    try Self.checkMemory(
      slab, loading: loading, physicalByteCount: SystemMemory.physicalByteCount)
    let weights = try SlabWeights(slab, loading: loading, pool: pool, progress: progress)
    try self.init(weights: weights, assets: assets, pool: pool, kernels: kernels)
  }

  /// Refuses a slab of which more would have to be in memory of our own than there is: a small file
  /// can claim a lot.
  static func checkMemory(
    _ slab: Slab, loading: WeightLoading = .map, physicalByteCount: Int
  ) throws(InferenceError) {
    var needed = 0
    for stream in slab.tensors.lazy.flatMap(\.streams)
    where stream.codec != .raw || slab.profile == .ship || loading == .copy {
      let (sum, overflow) = needed.addingReportingOverflow(stream.logicalByteCount)
      needed = overflow ? .max : sum
    }
    if needed > physicalByteCount {
      throw .memory(of: "the weights of \(slab.path)", needed: needed, physical: physicalByteCount)
    }
  }

  /// Builds a model from any source of weights; see ``init(slab:loading:pool:kernels:progress:)``.
  ///
  /// - Parameter progress: called with the number of tensors that are ready and that of all.
  public init(
    weights: any WeightSource, assets: ModelAssets, pool: WorkerPool, kernels: Kernels,
    progress: (_ ready: Int, _ total: Int) -> Void = { _, _ in }
  ) throws {
    let configuration = assets.configuration.resolved {
      weights.shape(ofTensor: $0) != nil
    }
    self.configuration = configuration
    self.assets = assets
    self.pool = pool
    self.kernels = kernels
    shape = ModelShape(configuration)
    decoder = try withoutActuallyEscaping(progress) { progress in
      var loader = ModelLoader(
        configuration: configuration, weights: weights, pool: pool, progress: progress)
      return try loader.decoder()
    }
  }
}

extension Model {
  /// Nil for models that were converted without one; they take token ids only.
  ///
  /// - Throws: `TokenizerError` when the model has one that cannot be executed.
  public var tokenizer: Tokenizer? { get throws { try assets.tokenizer?.get() } }

  /// Nil for models that have none; prompts are then raw completions.
  ///
  /// - Throws: `TemplateError` when the model has one that cannot be executed.
  public var chatTemplate: ChatTemplate? { get throws { try assets.chatTemplate?.get() } }

  /// The texts of `bos_token`, `eos_token` and so on, as templates name them.
  public var specialTokens: [String: String] { assets.specialTokens }

  /// Ids that end a completion: those of config.json and of generation_config.json.
  public var stopTokens: Set<TokenID> { assets.stopTokens }
}
