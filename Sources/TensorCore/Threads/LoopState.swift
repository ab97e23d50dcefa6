import CKernels
import Glibc
import Synchronization

/// The one parallel loop that a ``WorkerPool`` runs at a time, and how its threads wait.
///
/// `claims` holds the loop's number in its upper half and the next unclaimed index in its lower
/// half. A thread claims an index by a compare-exchange of the whole word, so one that slept through
/// the end of a loop can never take an index of the next one, and an index that it did claim keeps
/// the loop, hence `body`, alive until it has been counted in `remaining`.
final class LoopState: @unchecked Sendable {  // atomics, and a mutex around the condition variables
  private let claims = Atomic<UInt64>(0)
  private let count = Atomic<UInt64>(0)
  private let body = Atomic<UnsafeRawPointer?>(nil)
  private let remaining = Atomic<Int>(0)

  private let reserved = Atomic<Bool>(false)
  private let stopping = Atomic<Bool>(false)
  private let sleepingWorkers = Atomic<Int>(0)
  private let callerSleeps = Atomic<Bool>(false)
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let workersWake = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let callerWakes = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  /// Looks at a shared word before blocking: 20 to 70 µs, longer than the serial pieces between the
  /// loops of a forward pass.
  private static let spins = 1000

  init() {
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(workersWake, nil)
    pthread_cond_init(callerWakes, nil)
  }

  deinit {
    pthread_cond_destroy(callerWakes)
    pthread_cond_destroy(workersWake)
    pthread_mutex_destroy(mutex)
    callerWakes.deallocate()
    workersWake.deallocate()
    mutex.deallocate()
  }

  /// Takes the pool for one loop; false while another loop has it.
  func reserve() -> Bool {
    reserved.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged
  }

  func release() { reserved.store(false, ordering: .releasing) }

  /// Publishes a loop, takes part in it and returns when every index has been done.
  func run(_ count: Int, _ body: UnsafePointer<(Int) -> Void>) {
    precondition(count < 0xFFFF_FFFF)
    // Closes the last loop first: a thread still looking at it must not take the new count for its
    // own and claim one index more. Whoever sees the new count sees that the loop is closed.
    let last = claims.load(ordering: .relaxed) >> 32
    claims.store(last << 32 | 0xFFFF_FFFF, ordering: .sequentiallyConsistent)
    remaining.store(count, ordering: .relaxed)
    self.count.store(UInt64(count), ordering: .releasing)
    self.body.store(UnsafeRawPointer(body), ordering: .releasing)
    let loop = (last &+ 1) & 0xFFFF_FFFF
    claims.store(loop << 32, ordering: .sequentiallyConsistent)
    if sleepingWorkers.load(ordering: .sequentiallyConsistent) > 0 {
      pthread_mutex_lock(mutex)
      pthread_cond_broadcast(workersWake)
      pthread_mutex_unlock(mutex)
    }
    work(on: UInt32(truncatingIfNeeded: loop))
    awaitCompletion()
  }

  /// Ends ``serve()`` of every thread.
  func stop() {
    pthread_mutex_lock(mutex)
    stopping.store(true, ordering: .sequentiallyConsistent)
    pthread_cond_broadcast(workersWake)
    pthread_mutex_unlock(mutex)
  }

  /// The life of a worker: one loop after another until ``stop()``.
  func serve() {
    var seen: UInt32 = 0
    while let loop = nextLoop(after: seen) {
      work(on: loop)
      seen = loop
    }
  }

  /// Claims and runs indices of a loop until none is left.
  private func work(on loop: UInt32) {
    while true {
      let word = claims.load(ordering: .acquiring)
      let index = word & 0xFFFF_FFFF
      // Body and count may be the next loop's already; then this one is closed and the exchange fails.
      let body = self.body.load(ordering: .acquiring)
      guard word >> 32 == UInt64(loop), index < count.load(ordering: .acquiring) else { return }
      guard
        claims.compareExchange(expected: word, desired: word + 1, ordering: .acquiring).exchanged
      else { continue }
      call(body!.assumingMemoryBound(to: ((Int) -> Void).self), Int(index))
      finishOne()
    }
  }

  /// Not inlined, so that the closure's retain and release both lie before ``finishOne()``.
  @inline(never)
  private func call(_ body: UnsafePointer<(Int) -> Void>, _ index: Int) { body.pointee(index) }

  private func finishOne() {
    let left = remaining.subtract(1, ordering: .sequentiallyConsistent).newValue
    guard left == 0, callerSleeps.load(ordering: .sequentiallyConsistent) else { return }
    pthread_mutex_lock(mutex)
    pthread_cond_signal(callerWakes)
    pthread_mutex_unlock(mutex)
  }

  private func awaitCompletion() {
    for _ in 0..<Self.spins {
      if remaining.load(ordering: .acquiring) == 0 { return }
      ck_pause()
    }
    pthread_mutex_lock(mutex)
    callerSleeps.store(true, ordering: .sequentiallyConsistent)
    while remaining.load(ordering: .sequentiallyConsistent) != 0 {
      pthread_cond_wait(callerWakes, mutex)
    }
    callerSleeps.store(false, ordering: .relaxed)
    pthread_mutex_unlock(mutex)
  }

  /// Waits for a loop other than `seen`; nil when the pool stops.
  private func nextLoop(after seen: UInt32) -> UInt32? {
    func current() -> UInt32 {
      UInt32(truncatingIfNeeded: claims.load(ordering: .sequentiallyConsistent) >> 32)
    }
    for _ in 0..<Self.spins {
      let loop = current()
      if loop != seen { return loop }
      ck_pause()
    }
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    sleepingWorkers.add(1, ordering: .sequentiallyConsistent)
    defer { sleepingWorkers.subtract(1, ordering: .sequentiallyConsistent) }
    while true {
      if stopping.load(ordering: .sequentiallyConsistent) { return nil }
      let loop = current()
      if loop != seen { return loop }
      pthread_cond_wait(workersWake, mutex)
    }
  }
}

/// One thread that serves a ``LoopState``.
struct WorkerThread: @unchecked Sendable {  // a handle, joined once by the pool
  private let handle: pthread_t

  /// Nil when the system refuses another thread.
  init?(_ state: LoopState) {
    var handle = pthread_t()
    let argument = Unmanaged.passRetained(state)
    let status = pthread_create(
      &handle, nil,
      { argument in
        Unmanaged<LoopState>.fromOpaque(argument!).takeRetainedValue().serve()
        return nil
      }, argument.toOpaque())
    guard status == 0 else {
      argument.release()
      return nil
    }
    self.handle = handle
  }

  func join() { pthread_join(handle, nil) }
}
