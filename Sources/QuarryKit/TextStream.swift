import Inference

/// The text of an answer, piece by piece as it is computed.
///
/// Whoever stops reading ends the computation. Read by one task only.
public struct TextStream: AsyncSequence, Sendable {
  public typealias Element = String
  public typealias Failure = any Error

  let events: EngineEvents
  /// Lives as long as somebody reads.
  let model: LanguageModel

  public struct AsyncIterator: AsyncIteratorProtocol {
    var events: EngineEvents.AsyncIterator
    let model: LanguageModel

    /// The next piece, which is never empty; nil at the end.
    ///
    /// - Throws: `CancellationError`, `InferenceError`, ``EngineError``.
    public mutating func next() async throws -> String? {
      while let event = try await events.next() {
        if case .chosen(let choice) = event, !choice.text.isEmpty { return choice.text }
      }
      try Task.checkCancellation()
      return nil
    }
  }

  public func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(events: events.makeAsyncIterator(), model: model)
  }

  /// All of it.
  ///
  /// - Throws: as the iterator.
  public func text() async throws -> String {
    var text = ""
    for try await piece in self { text += piece }
    return text
  }
}
