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

  static func watch() {
    requested.store(false, ordering: .relaxed)
    signal(SIGINT) { _ in
      Interrupt.requested.store(true, ordering: .relaxed)
      signal(SIGINT, SIG_DFL)
    }
  }
}
