import Foundation

/// What the engine's thread is told, and the bound of how much it may be told at once.
final class Mailbox: @unchecked Sendable {  // everything that changes is under the lock
  enum Message {
    case start([Sequence])
    case cancel(Int)
  }

  private let condition = NSCondition()
  private let limit: Int
  private var messages: [Message] = []
  private var identifiers = 0
  private var inside = 0
  private var isClosed = false
  private var isStopping = false
  private var hasEnded = false

  /// - Parameter limit: sequences that may be inside.
  init(limit: Int) { self.limit = limit }

  private func locked<T>(_ body: () throws -> T) rethrows -> T {
    condition.lock()
    defer { condition.unlock() }
    return try body()
  }

  /// Identifiers are never used again.
  func nextID() -> Int {
    locked {
      identifiers += 1
      return identifiers
    }
  }

  var count: Int { locked { inside } }

  /// - Throws: ``EngineError``; then none has entered.
  func enter(_ sequences: [Sequence]) throws(EngineError) {
    let refusal: EngineError? = locked {
      if isClosed { return .stopped }
      if inside + sequences.count > limit { return .queueFull(limit: limit) }
      inside += sequences.count
      messages.append(.start(sequences))
      condition.broadcast()
      return nil
    }
    if let refusal { throw refusal }
  }

  /// `count` sequences are done.
  func leave(_ count: Int) { locked { inside -= count } }

  func post(_ message: Message) {
    locked {
      messages.append(message)
      condition.broadcast()
    }
  }

  func close() { locked { isClosed = true } }

  /// Asks the engine's thread to end.
  func stop() {
    locked {
      isClosed = true
      isStopping = true
      condition.broadcast()
    }
  }

  /// Waits until it has.
  func waitForEnd() { locked { while !hasEnded { condition.wait() } } }

  func end() {
    locked {
      hasEnded = true
      condition.broadcast()
    }
  }

  /// The engine's thread takes what there is, and learns whether that is the last.
  ///
  /// - Parameter waiting: whether it has nothing else to do.
  func take(waiting: Bool) -> (messages: [Message], isStopping: Bool) {
    locked {
      while waiting, messages.isEmpty, !isStopping { condition.wait() }
      defer { messages = [] }
      return (messages, isStopping)
    }
  }
}
