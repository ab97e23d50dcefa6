import ArgumentParser
import Foundation
import ModelFiles
import Synchronization

/// Ctrl-C (SIGINT) and SIGTERM as requests to stop: long work asks ``isRequested`` and tidies up. A
/// second one ends the program at once.
enum Interrupt {
  private static let received = Atomic<Int32>(0)

  static var isRequested: Bool { received.load(ordering: .relaxed) != 0 }

  /// Whether the program is to end, and not only what it is doing.
  static var endsProgram: Bool { received.load(ordering: .relaxed) == SIGTERM }

  /// The exit code of a program that a signal ended, as shells expect it: 130 or 143.
  static var exitCode: ExitCode {
    let signal = received.load(ordering: .relaxed)
    return ExitCode(128 + (signal == 0 ? SIGINT : signal))
  }

  /// Says that nothing is left of `output`; the error to end with.
  static func ended(without output: String) -> ExitCode {
    Console.note("interrupted: \(output) was not written, and nothing is left of it")
    return exitCode
  }

  /// Says what of the work on `output` is kept, as in "12 of 40 layers"; the error to end with.
  static func ended(without output: String, _ kept: String) -> ExitCode {
    let (partial, journal) = (
      SlabWriter.partialPath(of: output), SlabWriter.journalPath(of: output)
    )
    Console.note(
      "interrupted: \(kept) are kept in \(partial) and \(journal); run the same command to go on, or "
        + "remove these files")
    return exitCode
  }

  /// From now on the signals end the program again.
  static func unwatch() { for number in [SIGINT, SIGTERM] { signal(number, SIG_DFL) } }

  static func watch() {
    received.store(0, ordering: .relaxed)
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in [SIGINT, SIGTERM] { sigaddset(&signals, number) }
    pthread_sigmask(SIG_UNBLOCK, &signals, nil)  // a parent may have left them blocked
    for number in [SIGINT, SIGTERM] {
      signal(number) { number in
        Interrupt.received.store(number, ordering: .relaxed)
        signal(SIGINT, SIG_DFL)
        signal(SIGTERM, SIG_DFL)
      }
    }
  }
}
