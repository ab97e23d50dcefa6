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

  /// Loads a slab: maps its raw streams, decompresses the others.
  ///
  /// - Parameter progress: called with the number of tensors that are ready and that of all.
  /// - Throws: ``InferenceError``, `SlabError`.
  public convenience init(
    slab: Slab, pool: WorkerPool, kernels: Kernels,
    progress: (_ ready: Int, _ total: Int) -> Void = { _, _ in }
  ) throws {
    try Self.checkMemory(slab, physicalByteCount: SystemMemory.physicalByteCount)
    try self.init(
      weights: slab, assets: ModelAssets(slab: slab), pool: pool, kernels: kernels,
      progress: progress)
  }

  /// Refuses a slab whose compressed streams would not fit into memory: a small file can claim a lot.
  static func checkMemory(_ slab: Slab, physicalByteCount: Int) throws(InferenceError) {
    var needed = 0
    for stream in slab.tensors.lazy.flatMap(\.streams) where stream.codec != .raw {
      let (sum, overflow) = needed.addingReportingOverflow(stream.logicalByteCount)
      needed = overflow ? .max : sum
    }
    if needed > physicalByteCount {
      throw .memory(
        of: "the decompressed weights of \(slab.path)", needed: needed, physical: physicalByteCount)
    }
  }

  /// Builds a model from any source of weights; see ``init(slab:pool:kernels:progress:)``.
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
