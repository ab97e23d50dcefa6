internal import Synchronization

/// A moment between two calls that change files on the disk: where tests end the process, or find
/// out what a power cut would leave.
package enum FaultPoint: Sendable, Equatable {
  /// `done` bytes of a write of `count` bytes at `offset` have been handed to the system.
  case writing(path: String, offset: Int, done: Int, count: Int)
  /// Everything written to the file is about to be on the disk.
  case synchronizing(path: String)
  /// It is there.
  case synchronized(path: String)
  /// The file is about to get another name.
  case renaming(path: String, to: String)
  /// It has it, also after a power cut.
  case renamed(path: String, to: String)
  /// The file is about to lose its name.
  case removing(path: String)

  /// The file concerned.
  package var path: String {
    switch self {
    case .writing(let path, _, _, _), .synchronizing(let path), .synchronized(let path),
      .renaming(let path, _), .renamed(let path, _), .removing(let path):
      path
    }
  }

  private typealias Observer = (prefix: String, call: @Sendable (FaultPoint) -> Void)
  private static let observers = Mutex<[Observer]>([])

  /// Calls `observer` at every such moment of a file whose path begins with `prefix`, on the thread
  /// that writes.
  package static func observe(
    _ prefix: String, _ observer: @escaping @Sendable (FaultPoint) -> Void
  ) {
    observers.withLock { $0.append((prefix, observer)) }
  }

  /// Ends the observation of `prefix`.
  package static func ignore(_ prefix: String) {
    observers.withLock { $0.removeAll { $0.prefix == prefix } }
  }

  static func isObserved(_ path: String) -> Bool {
    observers.withLock { $0.contains { path.hasPrefix($0.prefix) } }
  }

  static func pass(_ point: @autoclosure () -> FaultPoint) {
    let observers = observers.withLock { $0 }
    if observers.isEmpty { return }
    let point = point()
    for observer in observers where point.path.hasPrefix(observer.prefix) { observer.call(point) }
  }
}
