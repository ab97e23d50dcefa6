import ArgumentParser
import Foundation
import Synchronization

/// Ctrl-C as a request to stop: long work asks ``isRequested`` and tidies up. A second Ctrl-C ends
/// the program at once.
enum Interrupt {
  private static let requested = Atomic(false)

  static var isRequested: Bool { requested.load(ordering: .relaxed) }

  /// The exit code of an interrupted program, as shells expect it.
  static let exitCode = ExitCode(130)

  /// Says that nothing is left of `output`; the error to end with.
  static func ended(without output: String) -> ExitCode {
    Console.note("interrupted: \(output) was not written, and nothing is left of it")
    return exitCode
  }

  /// From now on Ctrl-C ends the program again.
  static func unwatch() { signal(SIGINT, SIG_DFL) }

  static func watch() {
    requested.store(false, ordering: .relaxed)
    var interrupt = sigset_t()
    sigemptyset(&interrupt)
    sigaddset(&interrupt, SIGINT)
    pthread_sigmask(SIG_UNBLOCK, &interrupt, nil)  // a parent may have left it blocked
    signal(SIGINT) { _ in
      Interrupt.requested.store(true, ordering: .relaxed)
      signal(SIGINT, SIG_DFL)
    }
  }
}
