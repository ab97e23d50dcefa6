import Foundation
import Synchronization

/// A file that is cut short while it is mapped: touching the pages that are gone is a bus error, and
/// nothing that runs at that moment can go on. This ends the program with a sentence instead of a
/// bare crash. Any other bus error stays a crash.
///
/// The handler runs between any two instructions. It follows a list that only grows, removes a file
/// and writes bytes that were prepared, and exits.
enum MappedFiles {
  private struct Entry {
    let addresses: Range<UInt>
    let sentence: UnsafeBufferPointer<UInt8>
    /// Names of the half-written output and of its journal, as C has them.
    let partial: UnsafePointer<CChar>?
    let journal: UnsafePointer<CChar>?
    let exitStatus: Int32
    let next: UnsafePointer<Entry>?
  }

  /// Entries never change and are never freed.
  private nonisolated(unsafe) static let newest = Atomic<UnsafePointer<Entry>?>(nil)

  /// Prepares the end for `bytes`, which stay mapped until the program ends.
  ///
  /// - Parameters:
  ///   - advice: a sentence without a full stop.
  ///   - partial: a half-written output that goes with the program.
  ///   - journal: where another run could go on, so that the output stays if it is there.
  ///   - exitStatus: what ``Quarry`` says about exit codes: the work failed.
  static func watch(
    _ bytes: UnsafeRawBufferPointer, path: String, advice: String, removing partial: String? = nil,
    unless journal: String? = nil, exitStatus: Int32 = 1
  ) {
    guard let base = bytes.baseAddress else { return }
    let start = UInt(bitPattern: base)
    let text = """
      \(Console.errorIsTerminal ? "\n" : "")Error: \(path) became shorter while it was in use, so the \
      work cannot go on. \(advice).

      """
    let sentence = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
    _ = sentence.initialize(from: text.utf8)
    let entry = UnsafeMutablePointer<Entry>.allocate(capacity: 1)
    entry.initialize(
      to: Entry(
        addresses: start..<start + UInt(bytes.count), sentence: UnsafeBufferPointer(sentence),
        partial: partial.map { UnsafePointer(strdup($0)) },
        journal: journal.map { UnsafePointer(strdup($0)) }, exitStatus: exitStatus,
        next: newest.load(ordering: .acquiring)))
    newest.store(UnsafePointer(entry), ordering: .releasing)
  }

  /// To be called once, before anything is mapped.
  static func installHandler() {
    _ = newest.load(ordering: .relaxed)  // initialized here and not in the handler
    var action = sigaction()
    action.sa_flags = SA_SIGINFO
    action.__sigaction_handler.sa_sigaction = { _, information, _ in
      let information = information!.pointee
      if information.si_code == BUS_ADRERR {
        MappedFiles.endIfWatched(UInt(bitPattern: information._sifields._sigfault.si_addr))
      }
      // Once more, with nobody to handle it: a fault by itself, a signal of another process not.
      signal(SIGBUS, SIG_DFL)
      if information.si_code <= 0 { raise(SIGBUS) }
    }
    sigaction(SIGBUS, &action, nil)
  }

  private static func endIfWatched(_ address: UInt) {
    var entry = newest.load(ordering: .acquiring)
    while let current = entry {
      if current.pointee.addresses.contains(address) {
        if let partial = current.pointee.partial,
          current.pointee.journal.map({ access($0, F_OK) != 0 }) ?? true
        {
          unlink(partial)
        }
        let sentence = current.pointee.sentence
        _ = Glibc.write(STDERR_FILENO, sentence.baseAddress!, sentence.count)
        _exit(current.pointee.exitStatus)
      }
      entry = current.pointee.next
    }
  }
}
