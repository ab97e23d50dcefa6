import Foundation
import Synchronization
import TensorCore
import Testing

/// Counts of calls per index, written by the workers of a loop.
private final class Tally: Sendable {
  private let counts = Mutex<[Int]>([])

  init(_ count: Int) { counts.withLock { $0 = Array(repeating: 0, count: count) } }

  func add(_ index: Int) { counts.withLock { $0[index] += 1 } }

  var values: [Int] { counts.withLock { $0 } }
}

/// How often threads were stopped.
private let interruptions = Atomic<Int>(0)

/// Counts of calls per index that need no lock, which would hide what happens around them.
private final class Calls: Sendable {
  private let counts = Atomic<UInt64>(0)  // eight bytes, one for each index

  func reset() { counts.store(0, ordering: .relaxed) }

  func add(_ index: Int) { counts.add(1 << UInt64(8 * index), ordering: .relaxed) }

  subscript(index: Int) -> UInt64 { counts.load(ordering: .relaxed) >> UInt64(8 * index) & 255 }
}

@Suite struct WorkerPoolTests {
  @Test(arguments: [-1, 1, 2, 3, 8])
  func everyIndexOnce(threads: Int) {
    let pool = WorkerPool(threadCount: threads)
    #expect(pool.threadCount == max(1, threads))
    for count in [0, 1, 2, 3, 7, 100, 1000] {
      let tally = Tally(count)
      pool.parallelFor(count) { tally.add($0) }
      #expect(tally.values == Array(repeating: 1, count: count))
    }
  }

  /// No index of a stage begins before all of those before it are done.
  @Test(arguments: [1, 2, 3, 8])
  func stagesFollowEachOther(threads: Int) {
    let pool = WorkerPool(threadCount: threads)
    let done = Atomic<Int>(0)
    let early = Atomic<Int>(0)
    for round in 0..<2_000 {
      done.store(0, ordering: .relaxed)
      var before = 0
      let stages = [3, 0, 1, 1, 20, 7, 0].map { count in
        let first = before
        before += count
        return LoopStage(count: count) { index in
          if done.load(ordering: .relaxed) < first { early.add(1, ordering: .relaxed) }
          // Some take long.
          for _ in 0..<(index + round) % 5 * 200 { _ = done.load(ordering: .relaxed) }
          done.add(1, ordering: .relaxed)
        }
      }
      pool.run(stages)
      #expect(done.load(ordering: .relaxed) == before)
    }
    #expect(early.load(ordering: .relaxed) == 0)
  }

  /// A thread that waits for a stage to begin is given the index that it will take.
  @Test(.timeLimit(.minutes(1))) func waitingThreadsPrepare() {
    let pool = WorkerPool(threadCount: 2)
    let prepared = Atomic<Int>(-1)
    pool.run([
      LoopStage(count: 1) { _ in
        while prepared.load(ordering: .relaxed) < 0 {}  // until the other thread waits
      },
      LoopStage(count: 1, whileWaiting: { prepared.store($0, ordering: .relaxed) }) { _ in },
    ])
    #expect(prepared.load(ordering: .relaxed) == 0)
  }

  @Test func manyShortLoops() {
    let pool = WorkerPool(threadCount: 4)
    let total = Atomic<Int>(0)
    for count in 0..<20_000 {
      pool.parallelFor(count % 5) { total.add($0 + 1, ordering: .relaxed) }
    }
    #expect(total.load(ordering: .relaxed) == 4_000 * (0 + 1 + 3 + 6 + 10))
  }

  /// Threads stopped at random instructions for random times: what a busy machine does now and then.
  @Test func everyIndexOnceWhereverThreadsStop() async {
    // In a process of its own, which an alarm ends where a loop never returns.
    await #expect(processExitsWith: .success) {
      alarm(30)
      signal(SIGUSR1) { _ in
        let pauses = interruptions.add(1, ordering: .relaxed).newValue
        var pause = timespec(tv_sec: 0, tv_nsec: pauses &* 7919 % 100 * 1000)
        nanosleep(&pause, nil)
      }
      // The thread that a test runs on may block signals, and the pool's inherit what it blocks.
      var signals = sigset_t()
      sigemptyset(&signals)
      sigaddset(&signals, SIGUSR1)
      pthread_sigmask(SIG_UNBLOCK, &signals, nil)
      let pool = WorkerPool(threadCount: 2)
      let threads = Mutex<[pthread_t]>([])
      pool.parallelFor(2) { _ in  // each waits for the other, so the two are two threads
        threads.withLock { $0.append(pthread_self()) }
        while threads.withLock({ $0.count }) < 2 {}
      }
      let targets = threads.withLock { $0 }
      let interrupter = Thread {
        while true {
          for target in targets { pthread_kill(target, SIGUSR1) }
          usleep(100)
        }
      }
      interrupter.start()
      let calls = Calls()
      var loop = 0
      while interruptions.load(ordering: .relaxed) < 20_000 {
        let count = loop % 2 == 0 ? 2 : 7
        calls.reset()
        pool.parallelFor(count) { calls.add($0) }
        for index in 0..<8 { precondition(calls[index] == (index < count ? 1 : 0), "loop \(loop)") }
        loop += 1
      }
    }
  }

  @Test func workersTakePart() {
    let pool = WorkerPool(threadCount: 2)
    let arrived = Atomic<Int>(0)
    let deadline = Date(timeIntervalSinceNow: 10)
    // Each of two iterations waits for the other: one thread alone could not finish.
    pool.parallelFor(2) { _ in
      arrived.add(1, ordering: .sequentiallyConsistent)
      while arrived.load(ordering: .sequentiallyConsistent) < 2, Date() < deadline {}
    }
    #expect(arrived.load(ordering: .relaxed) == 2)
    #expect(Date() < deadline)
  }

  @Test func wakesAfterSleeping() {
    let pool = WorkerPool(threadCount: 3)
    for _ in 0..<5 {
      Thread.sleep(forTimeInterval: 0.01)
      let tally = Tally(50)
      pool.parallelFor(50) { index in
        if index == 7 { Thread.sleep(forTimeInterval: 0.002) }  // the caller blocks, too
        tally.add(index)
      }
      #expect(tally.values == Array(repeating: 1, count: 50))
    }
  }

  @Test func nestedLoops() {
    let pool = WorkerPool(threadCount: 3)
    let tally = Tally(100)
    pool.parallelFor(10) { outer in
      pool.parallelFor(10) { tally.add(outer * 10 + $0) }
    }
    #expect(tally.values == Array(repeating: 1, count: 100))
  }

  @Test func concurrentCallers() async {
    let pool = WorkerPool(threadCount: 3)
    await withTaskGroup(of: [Int].self) { group in
      for _ in 0..<8 {
        group.addTask {
          let tally = Tally(200)
          for _ in 0..<20 { pool.parallelFor(200) { tally.add($0) } }
          return tally.values
        }
      }
      for await values in group { #expect(values == Array(repeating: 20, count: 200)) }
    }
  }

  @Test func poolsComeAndGo() {
    for threads in 1...40 {
      let tally = Tally(3)
      WorkerPool(threadCount: threads % 5).parallelFor(3) { tally.add($0) }
      #expect(tally.values == [1, 1, 1])
    }
  }

  @Test func idlePoolUsesNoProcessorTime() async {
    // In a process of its own, whose clock counts nobody else's work.
    await #expect(processExitsWith: .success) {
      let pool = WorkerPool(threadCount: 4)
      pool.parallelFor(4) { _ in }
      usleep(100_000)
      let before = clock()
      usleep(300_000)
      let used = Double(clock() - before) / Double(CLOCKS_PER_SEC)
      precondition(used < 0.1 && pool.threadCount == 4)
    }
  }

  @Test(arguments: [1, 2, 4])
  func rangesCoverEverything(threads: Int) {
    let pool = WorkerPool(threadCount: threads)
    for count in [0, 1, 5, 64, 1000] {
      for minimum in [1, 16, 5000] {
        let tally = Tally(count)
        pool.parallelRanges(count, minimum: minimum) { for index in $0 { tally.add(index) } }
        #expect(tally.values == Array(repeating: 1, count: count))
      }
    }
  }
}
