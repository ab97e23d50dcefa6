import Inference
public import TensorCore

/// How an engine shares a model among requests.
public struct EngineConfiguration: Sendable {
  /// Sequences that are computed together.
  public var slots: Int
  /// Tokens that one sequence may have, prompt and completion together.
  public var contextLength: Int
  /// How keys and values are kept.
  public var cacheType: CacheType
  /// Requests that may wait for a slot.
  public var maxQueue: Int
  /// Tiles of `CacheBudget.tilePositions` positions for all sequences together, finished ones that
  /// are kept for their prefixes included; nil for as many as let every slot use its whole context.
  public var cacheTiles: Int?

  /// - Parameters:
  ///   - slots: sequences that are computed together.
  ///   - contextLength: tokens of one sequence.
  ///   - cacheType: how keys and values are kept.
  ///   - maxQueue: requests that may wait.
  ///   - cacheTiles: memory for all sequences.
  public init(
    slots: Int, contextLength: Int, cacheType: CacheType = .f16, maxQueue: Int,
    cacheTiles: Int? = nil
  ) {
    self.slots = slots
    self.contextLength = contextLength
    self.cacheType = cacheType
    self.maxQueue = maxQueue
    self.cacheTiles = cacheTiles
  }
}
