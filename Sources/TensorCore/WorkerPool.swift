/// Threads that share the iterations of one parallel loop after another.
public final class WorkerPool: Sendable {
  /// Threads that take part, the caller included.
  public let threadCount: Int

  public init(threadCount: Int) { self.threadCount = max(1, threadCount) }

  /// Calls `body` once for every index in `0..<count`, in any order, on any of the threads, and
  /// returns when all are done. Results must not depend on which thread ran what.
  public func parallelFor(_ count: Int, _ body: (Int) -> Void) {
    for index in 0..<count { body(index) }
  }
}
