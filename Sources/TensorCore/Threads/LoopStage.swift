/// A part of a parallel loop, which begins when all parts before it are done.
///
/// Threads call it without counting references to it, for which they would wait for each other: the
/// loop's caller keeps it until all indices are done.
public final class LoopStage {
  let count: Int
  let body: (Int) -> Void
  let whileWaiting: ((Int) -> Void)?

  /// - Parameters:
  ///   - count: how many indices it has, from 0.
  ///   - whileWaiting: called at times for an index that a thread will take, while other threads are
  ///     not done with what comes before: for fetching what it needs into the thread's cache.
  ///   - body: called once for every index, in any order, on any thread.
  public init(
    count: Int, whileWaiting: ((Int) -> Void)? = nil, _ body: @escaping (Int) -> Void
  ) {
    self.count = count
    self.whileWaiting = whileWaiting
    self.body = body
  }

  /// Of ranges that cover `0..<count`, several for each thread and none shorter than `minimum` where
  /// possible: for indices that are too short to hand out one by one.
  public convenience init(
    ranges count: Int, minimum: Int, threadCount: Int, _ body: @escaping (Range<Int>) -> Void
  ) {
    let pieces = threadCount == 1 ? 1 : max(1, min(count / max(1, minimum), threadCount * 8))
    self.init(count: count == 0 ? 0 : pieces) { piece in
      body(count * piece / pieces..<count * (piece + 1) / pieces)
    }
  }
}
