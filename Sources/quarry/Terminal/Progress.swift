import Foundation
import Synchronization

/// Progress of one long task on standard error: a bar that redraws itself on a terminal, otherwise
/// a line for every tenth, once it has taken so long that somebody may wonder.
final class Progress: Sendable {
  private let title: String
  private let start = ContinuousClock.now
  private let state = Mutex((drawn: ContinuousClock.now - .seconds(1), tenth: 0, shown: false))

  init(_ title: String) { self.title = title }

  /// - Parameter detail: what is being worked on.
  func update(_ done: Int, of total: Int, _ detail: String = "") {
    let fraction = total > 0 ? min(1, Double(done) / Double(total)) : 1
    state.withLock { state in
      if Console.errorIsTerminal {
        guard ContinuousClock.now - state.drawn > .milliseconds(100) || fraction == 1 else {
          return
        }
        state = (ContinuousClock.now, state.tenth, true)
        draw(fraction, detail)
      } else if Int(fraction * 10) > state.tenth, ContinuousClock.now - start > .seconds(2) {
        state.tenth = Int(fraction * 10)
        Console.note("\(title): \(state.tenth * 10) %")
      }
    }
  }

  /// Removes the bar.
  func finish() {
    state.withLock { state in
      if state.shown { Console.writeError("\r\u{1B}[K") }
      state.shown = false
    }
  }

  private func draw(_ fraction: Double, _ detail: String) {
    let cells = 24
    let full = Int(fraction * Double(cells))
    let bar = String(repeating: "█", count: full) + String(repeating: "░", count: cells - full)
    let line = "\(title) \(bar) \(String(format: "%3.0f", fraction * 100)) %  \(detail)"
    Console.writeError("\r\u{1B}[K" + line.prefix(Console.width - 1))
  }
}
