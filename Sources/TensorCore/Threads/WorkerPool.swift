/// Threads that share the iterations of one parallel loop after another.
///
/// The threads live as long as the pool. Between loops they look for work for a fraction of a
/// millisecond and then block, so an idle pool costs nothing. The caller of a loop takes part in it
/// and waits for iterations, not for threads: a worker that wakes up late delays nobody.
///
/// Any thread may begin a loop at any time. While one loop runs, another one, nested
/// in its body or begun by another thread, runs on its own caller alone.
public final class WorkerPool: Sendable {
  /// Threads that take part, the caller included.
  public let threadCount: Int

  private let state = LoopState()
  private let threads: [WorkerThread]

  /// - Parameter threadCount: 1...1024; values outside are clamped. Fewer take part where the system
  ///   refuses to start as many.
  public init(threadCount: Int) {
    var threads: [WorkerThread] = []
    while threads.count < min(threadCount, 1024) - 1, let thread = WorkerThread(state) {
      threads.append(thread)
    }
    self.threads = threads
    self.threadCount = threads.count + 1
  }

  deinit {
    state.stop()
    for thread in threads { thread.join() }
  }

  /// Calls `body` once for every index in `0..<count`, in any order, on any of the threads, and
  /// returns when all are done. Results must not depend on which thread ran what.
  ///
  /// - Precondition: `count` is at most 2³² − 1.
  public func parallelFor(_ count: Int, _ body: (Int) -> Void) {
    guard count > 1, !threads.isEmpty else {
      if count > 0 { for index in 0..<count { body(index) } }
      return
    }
    withoutActuallyEscaping(body) { run([LoopStage(count: count, $0)]) }
  }

  /// Runs all stages in one loop, each after those before it. What one stage writes the next may read.
  ///
  /// - Precondition: they have at most 2³² − 1 indices.
  public func run(_ stages: [LoopStage]) {
    let count = stages.reduce(0) { $0 + $1.count }
    precondition(count <= Int(UInt32.max))
    guard count > 1, !threads.isEmpty, state.reserve() else {
      for stage in stages { for index in 0..<stage.count { stage.body(index) } }
      return
    }
    stages.withUnsafeBufferPointer { stages in
      stages.withMemoryRebound(to: Unmanaged<LoopStage>.self) {
        state.run(count, $0.baseAddress!)
      }
    }
    state.release()
  }

  /// Calls `body` with consecutive ranges that cover `0..<count`, several for each thread and none
  /// shorter than `minimum` where possible: for loops whose iterations are too short to hand out
  /// one by one.
  public func parallelRanges(_ count: Int, minimum: Int, _ body: (Range<Int>) -> Void) {
    guard count > 0 else { return }
    withoutActuallyEscaping(body) {
      run([LoopStage(ranges: count, minimum: minimum, threadCount: threadCount, $0)])
    }
  }
}
