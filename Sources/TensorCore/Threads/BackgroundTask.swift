import Glibc

/// Work on a thread of its own, beside its owner's.
///
/// A task that nobody has waited for is waited for at the end of its life, so that nothing it uses
/// goes away under it.
public final class BackgroundTask<Output: Sendable> {
  private let state: State
  private var handle: pthread_t?

  /// What both threads see: written by one, read by the other after joining it.
  private final class State: Runnable, @unchecked Sendable {
    let work: @Sendable () -> Output
    var output: Output?

    init(_ work: @escaping @Sendable () -> Output) { self.work = work }

    override func run() { output = work() }
  }

  /// Starts the work; where the system refuses another thread, does it here and now.
  public init(_ work: @escaping @Sendable () -> Output) {
    state = State(work)
    var handle = pthread_t()
    let argument = Unmanaged<Runnable>.passRetained(state)
    let status = pthread_create(
      &handle, nil,
      { argument in
        Unmanaged<Runnable>.fromOpaque(argument!).takeRetainedValue().run()
        return nil
      }, argument.toOpaque())
    if status == 0 {
      self.handle = handle
    } else {
      argument.release()
      state.run()
    }
  }

  deinit { join() }

  /// Waits for the end of the work.
  /// - Returns: what it returned.
  public func wait() -> Output {
    join()
    return state.output!
  }

  private func join() {
    if let handle { pthread_join(handle, nil) }
    handle = nil
  }
}

/// Not generic, as the function that a thread begins with cannot be.
private class Runnable {
  func run() {}
}
