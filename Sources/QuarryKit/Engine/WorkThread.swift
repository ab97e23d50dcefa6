import Foundation

/// Threads for work that would keep Swift's own from others.
package enum WorkThread {
  package static func start(name: String = "work", _ work: @escaping @Sendable () -> Void) {
    let thread = Thread(block: work)
    thread.name = name
    thread.stackSize = 8 << 20
    thread.start()
  }
}
