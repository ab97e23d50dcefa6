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

  @Test func manyShortLoops() {
    let pool = WorkerPool(threadCount: 4)
    let total = Atomic<Int>(0)
    for count in 0..<20_000 {
      pool.parallelFor(count % 5) { total.add($0 + 1, ordering: .relaxed) }
    }
    #expect(total.load(ordering: .relaxed) == 4_000 * (0 + 1 + 3 + 6 + 10))
  }

  /// A loop of few indices before one of many: a thread late from the first must not claim an index
  /// more because it sees the second one's count.
  @Test func everyIndexOnceWhateverTheLastCount() {
    let pool = WorkerPool(threadCount: 2)
    var wrong = 0
    for loop in 0..<300_000 {
      let count = loop % 2 == 0 ? 2 : 7
      let calls = Mutex([Int](repeating: 0, count: 8))
      pool.parallelFor(count) { index in calls.withLock { $0[index] += 1 } }
      let seen = calls.withLock { $0 }
      if seen != (0..<8).map({ $0 < count ? 1 : 0 }) { wrong += 1 }
    }
    #expect(wrong == 0)
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
