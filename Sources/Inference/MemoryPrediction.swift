public import ModelFiles
public import TensorCore

/// The memory that a model takes once a session's context is full.
public struct MemoryPrediction: Sendable, Equatable {
  /// Streams of all tensors, mapped or decompressed.
  public let weightByteCount: Int
  /// Keys and values at full context.
  public let cacheByteCount: Int
  /// The state of the recurrent layers of a session, whatever its context.
  public let stateByteCount: Int
  /// Activations of a chunk of the prompt.
  public let workspaceByteCount: Int

  /// - Parameter contextLength: by default the model's.
  public init(
    weightByteCount: Int, configuration: ModelConfiguration, contextLength: Int? = nil,
    cacheType: CacheType = .f16
  ) {
    let shape = ModelShape(configuration)
    self.weightByteCount = weightByteCount
    cacheByteCount = KVCache.byteCount(
      shape: shape, type: cacheType, positions: contextLength ?? shape.contextLength)
    stateByteCount = RecurrentState.byteCount(shape)
    workspaceByteCount = Workspace.byteCount(
      shape: shape, tokenCapacity: Session.defaultChunkLength)
  }

  /// The sum; `Int.max` where it is more, as what a file claims may be.
  public var total: Int {
    [cacheByteCount, stateByteCount, workspaceByteCount].reduce(weightByteCount) { sum, part in
      let (bytes, overflow) = sum.addingReportingOverflow(part)
      return overflow ? .max : bytes
    }
  }
}

extension MemoryPrediction {
  /// - Throws: ``InferenceError/missingAsset(name:model:)``,
  ///   ``InferenceError/invalidAsset(name:model:reason:)``.
  public init(
    slab: Slab, contextLength: Int? = nil, cacheType: CacheType = .f16
  ) throws {
    self.init(
      weightByteCount: slab.tensors.reduce(0) { $0 + $1.logicalByteCount },
      configuration: try ModelAssets.configuration(path: slab.path, asset: slab.asset(named:)),
      contextLength: contextLength, cacheType: cacheType)
  }
}
