public import Inference
import Synchronization

/// Owns a model and runs requests on it, all at once, on a thread of its own.
///
/// Every step decodes a token of each running sequence and reads a bounded chunk of the prompts that
/// are being read. What a sequence says is what it says alone, bit for bit. Any thread may submit.
public final class Engine: Sendable {
  public let model: Model
  public let configuration: EngineConfiguration
  /// Tiles of keys and values, and of states, that there may be.
  public let cacheTiles: Int
  private let mailbox: Mailbox
  private let counters = Mutex(EngineStatistics())

  /// - Throws: `InferenceError` for a context that the model cannot have.
  /// - Precondition: at least one slot, and tiles for a whole context.
  public init(model: Model, configuration: EngineConfiguration) throws {
    precondition(configuration.slots > 0)
    let perSlot = CacheBudget.tileCount(
      configuration.contextLength, of: model, configuration.cacheType)
    cacheTiles = configuration.cacheTiles ?? configuration.slots * perSlot
    precondition(cacheTiles >= perSlot)
    self.model = model
    self.configuration = configuration
    mailbox = Mailbox(limit: configuration.slots + configuration.maxQueue)
    let scheduler = try Scheduler(
      model: model, configuration: configuration, cacheTiles: cacheTiles)
    counters.withLock { $0 = scheduler.statistics }
    WorkThread.start(name: "engine") { [self, mailbox] in
      var isStopping = false
      while !isStopping {
        let mail = mailbox.take(waiting: scheduler.isIdle)
        for message in mail.messages {
          switch message {
          case .start(let sequences): scheduler.enqueue(sequences)
          case .cancel(let id): scheduler.cancel(id)
          }
        }
        isStopping = mail.isStopping
        if isStopping { scheduler.stop() }
        let ended = scheduler.step()
        self.counters.withLock { $0 = scheduler.statistics }
        mailbox.leave(ended.count)
        for sequence in ended { sequence.announce() }
      }
      mailbox.end()
    }
  }

  /// Queues requests, all of them or none.
  ///
  /// - Returns: the events of each.
  /// - Throws: ``EngineError``; as `Completion.init` for a request that cannot be run.
  public func submit(_ requests: [EngineRequest]) throws -> [EngineEvents] {
    var streams: [EngineEvents] = []
    let sequences = try requests.map { request in
      let completion = try Completion(
        model: model, prompt: request.prompt, options: request.options,
        contextLength: configuration.contextLength)
      let (stream, continuation) = EngineEvents.makeStream()
      streams.append(stream)
      let sequence = Sequence(
        id: mailbox.nextID(), request: request, completion: completion, events: continuation)
      continuation.onTermination = { [mailbox, id = sequence.id] termination in
        if case .cancelled = termination { mailbox.post(.cancel(id)) }
      }
      return sequence
    }
    try mailbox.enter(sequences)
    return streams
  }

  /// Queues one request; see ``submit(_:)-([EngineRequest])``.
  public func submit(_ request: EngineRequest) throws -> EngineEvents { try submit([request])[0] }

  /// Takes no more requests; those that run and wait go on.
  public func close() { mailbox.close() }

  /// Ends all requests with ``EngineError/stopped`` and waits for the thread to end.
  public func stop() {
    mailbox.stop()
    mailbox.waitForEnd()
  }

  /// As ``stop()``, without waiting: the thread, and with it the model, go when their step is done.
  public func abandon() { mailbox.stop() }

  /// Requests that run or wait.
  public var requestCount: Int { mailbox.count }

  /// What the engine has done so far, as of the last step.
  public var statistics: EngineStatistics { counters.withLock { $0 } }
}
