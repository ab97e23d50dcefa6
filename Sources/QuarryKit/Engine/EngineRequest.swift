public import Inference
public import Tokenization

/// A prompt to complete.
public struct EngineRequest: Sendable {
  public var prompt: [TokenID]
  public var options: GenerationOptions
  /// With how many alternatives the log-probabilities of the prompt's tokens are wanted; nil for none.
  /// Such a prompt is computed as a whole.
  public var promptLogprobs: Int?
  /// Whether tokens are to be chosen; otherwise the prompt is only scored.
  public var generates: Bool

  public init(
    prompt: [TokenID], options: GenerationOptions, promptLogprobs: Int? = nil,
    generates: Bool = true
  ) {
    self.prompt = prompt
    self.options = options
    self.promptLogprobs = promptLogprobs
    self.generates = generates
  }
}

/// What comes of a request, in this order.
public enum EngineEvent: Sendable {
  /// That many tokens of the prompt are computed. Comes first when the request leaves the queue, then
  /// with every further chunk.
  case reading(Int, of: Int)
  /// Once, where ``EngineRequest/promptLogprobs`` asks: for every token of the prompt but the first.
  case prompt([TokenLogprobs])
  case chosen(Completion.Choice)
  /// The last event.
  case finished(GenerationSummary)
}

/// The events of a request. Whoever stops reading them cancels it.
public typealias EngineEvents = AsyncThrowingStream<EngineEvent, any Error>

/// Why an engine does not do what was asked.
public enum EngineError: Error, Equatable, Sendable, CustomStringConvertible {
  /// As many requests run and wait as may.
  case queueFull(limit: Int)
  /// The engine takes no more requests, and ended those that ran.
  case stopped

  public var description: String {
    switch self {
    case .queueFull(let limit): "the queue is full: \(limit) requests run or wait; try again later"
    case .stopped: "the server is shutting down"
    }
  }
}
