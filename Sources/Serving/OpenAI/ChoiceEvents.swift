import Inference
import QuarryKit

/// The events of several choices, as they come, each with the index of its choice.
struct ChoiceEvents: Sendable {
  let streams: [EngineEvents]
  /// Called with every event.
  var observe: @Sendable (EngineEvent) -> Void = { _ in }

  /// Calls `receive` with every event, one at a time. An error of one choice ends all of them, and so
  /// does cancelling the task.
  func forEach(_ receive: (_ choice: Int, _ event: EngineEvent) throws -> Void) async throws {
    let (merged, events) = AsyncThrowingStream<(Int, EngineEvent), any Error>.makeStream()
    try await withThrowingTaskGroup(of: Void.self) { group in
      let streams = streams
      group.addTask {
        do {
          try await withThrowingTaskGroup(of: Void.self) { readers in
            for (index, stream) in streams.enumerated() {
              readers.addTask { for try await event in stream { events.yield((index, event)) } }
            }
            try await readers.waitForAll()
          }
          events.finish()
        } catch {
          events.finish(throwing: error)
        }
      }
      for try await (choice, event) in merged {
        observe(event)
        try receive(choice, event)
      }
      group.cancelAll()
    }
    try Task.checkCancellation()
  }
}
