import CKernels
import Glibc
import Synchronization

/// The one parallel loop that a ``WorkerPool`` runs at a time, and how its threads wait.
///
/// `claims` holds the loop's number in its upper half and in its lower half how many indices nobody has
/// claimed. A thread claims an index by a compare-exchange of the whole word, so one that slept through
/// the end of a loop can never take an index of the next one, and an index that it did claim keeps
/// the loop, hence `count` and `stages`, alive until it has been counted in `remaining`.
///
/// Indices are claimed in order, those of one stage after those of the stage before. So a stage may begin
/// when `remaining` has come down to its indices and those after it; whoever holds an earlier index waits
/// for still earlier ones only.
final class LoopState: @unchecked Sendable {  // atomics, and a mutex around the condition variables
  private let claims = Atomic<UInt64>(0)
  private let count = Atomic<Int>(0)
  private let stages = Atomic<UnsafePointer<Unmanaged<LoopStage>>?>(nil)
  private let remaining = Atomic<Int>(0)

  private let reserved = Atomic<Bool>(false)
  private let stopping = Atomic<Bool>(false)
  private let sleepingWorkers = Atomic<Int>(0)
  private let callerSleeps = Atomic<Bool>(false)
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let workersWake = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let callerWakes = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  /// Looks at a shared word before blocking: 80 to 280 µs, longer than the serial pieces between the
  /// loops of a forward pass, and than choosing the likeliest token after it.
  private static let spins = 4000

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
  ///
  /// - Parameters:
  ///   - count: the indices of all stages.
  ///   - stages: valid until it returns.
  func run(_ count: Int, _ stages: UnsafePointer<Unmanaged<LoopStage>>) {
    let last = claims.load(ordering: .relaxed) >> 32
    remaining.store(count, ordering: .relaxed)
    self.count.store(count, ordering: .relaxed)
    self.stages.store(stages, ordering: .relaxed)
    let word = ((last &+ 1) & 0xFFFF_FFFF) << 32 | UInt64(count)
    claims.store(word, ordering: .sequentiallyConsistent)
    if sleepingWorkers.load(ordering: .sequentiallyConsistent) > 0 {
      pthread_mutex_lock(mutex)
      pthread_cond_broadcast(workersWake)
      pthread_mutex_unlock(mutex)
    }
    work(from: word)
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
    var seen: UInt64 = 0
    while let word = nextLoop(after: seen) {
      work(from: word)
      seen = word
    }
  }

  /// Claims and runs indices of a loop until none is left.
  ///
  /// Whoever touches the shared words waits for the thread that touched them last: a claim begins with
  /// a guess, and what is done is counted once.
  ///
  /// - Parameter word: what `claims` was when the loop was seen.
  private func work(from word: UInt64) {
    let loop = word >> 32
    var (word, done) = (word, 0)
    // The stage of the last index, and where it begins.
    var (place, first) = (0, 0)
    while word >> 32 == loop, word & 0xFFFF_FFFF > 0 {
      let (isClaimed, found) = claims.compareExchange(
        expected: word, desired: word - 1, ordering: .acquiring)
      guard isClaimed else {
        word = found
        continue
      }
      let count = count.load(ordering: .relaxed)
      let stages = stages.load(ordering: .relaxed)!
      let index = count - Int(word & 0xFFFF_FFFF)
      let lastPlace = place
      while true {
        let end = first + stages[place]._withUnsafeGuaranteedRef { $0.count }
        if index < end { break }
        (place, first) = (place + 1, end)
      }
      stages[place]._withUnsafeGuaranteedRef { stage in
        if place != lastPlace {
          if done > 0 { remaining.subtract(done, ordering: .acquiringAndReleasing) }
          done = 0
          awaitBeginning(of: stage, index: index - first, remaining: count - first)
        }
        stage.body(index - first)
      }
      done += 1
      word -= 1
    }
    if done > 0 { finish(done) }
  }

  /// Waits until nothing is left of the stages before.
  private func awaitBeginning(of stage: LoopStage, index: Int, remaining left: Int) {
    if remaining.load(ordering: .acquiring) <= left { return }
    stage.whileWaiting?(index)
    var looks = 0
    while remaining.load(ordering: .acquiring) > left {
      looks += 1
      if looks < Self.spins { ck_pause() } else { sched_yield() }
    }
  }

  private func finish(_ done: Int) {
    let left = remaining.subtract(done, ordering: .sequentiallyConsistent).newValue
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

  /// Waits for another loop than that of `seen`, a word of `claims`; nil when the pool stops.
  private func nextLoop(after seen: UInt64) -> UInt64? {
    for _ in 0..<Self.spins {
      let word = claims.load(ordering: .sequentiallyConsistent)
      if word >> 32 != seen >> 32 { return word }
      ck_pause()
    }
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    sleepingWorkers.add(1, ordering: .sequentiallyConsistent)
    defer { sleepingWorkers.subtract(1, ordering: .sequentiallyConsistent) }
    while true {
      if stopping.load(ordering: .sequentiallyConsistent) { return nil }
      let word = claims.load(ordering: .sequentiallyConsistent)
      if word >> 32 != seen >> 32 { return word }
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
