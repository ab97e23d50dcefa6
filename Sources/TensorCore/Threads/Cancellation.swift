import Synchronization

/// A question whether work is still wanted, asked by many threads: once the answer was yes, it stays
/// so, and what some threads skipped is never taken for complete by others.
public final class Cancellation: Sendable {
  private let isCancelled: @Sendable () -> Bool
  private let wasRequested = Atomic(false)

  public init(_ isCancelled: @escaping @Sendable () -> Bool) { self.isCancelled = isCancelled }

  /// Whether the work may stop.
  public var isRequested: Bool {
    if wasRequested.load(ordering: .relaxed) { return true }
    guard isCancelled() else { return false }
    wasRequested.store(true, ordering: .sequentiallyConsistent)
    return true
  }
}
