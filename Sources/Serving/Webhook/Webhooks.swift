import Foundation
import JSON
import Logging
import Synchronization

/// Calls whoever wants to know what becomes of predictions, as the published service does: the start and
/// the end at once, what comes between at most twice a second, the end again until it is taken.
final class Webhooks: Sendable {
  let secret: WebhookSecret
  let allowsPrivate: Bool
  private let logger: Logger
  /// Threads that wait for those who are called.
  private let queue: OperationQueue
  private let stop = StopFlag()
  private let following = Mutex<[String: Task<Void, Never>]>([:])

  /// Predictions that are followed at once; more wait in vain.
  private static let limit = 1000
  private static let interval = Duration.milliseconds(500)
  /// Further attempts to tell the end, after 0.1, 0.2, 0.4… seconds.
  private static let retries = 12
  /// Seconds that calls have once the server ends.
  private static let grace = 5

  init(secret: WebhookSecret, allowsPrivate: Bool, logger: Logger) {
    self.secret = secret
    self.allowsPrivate = allowsPrivate
    self.logger = logger
    queue = OperationQueue()
    queue.maxConcurrentOperationCount = 8
  }

  /// Calls from now on for what happens to a prediction, and for what has happened.
  func follow(_ prediction: Prediction, for webhook: Webhook) {
    following.withLock { following in
      guard following.count < Self.limit else {
        logger.error(
          "too many webhooks wait: one is not called", metadata: place(prediction, webhook))
        return
      }
      following[prediction.id] = Task { [self] in
        await tell(prediction, webhook)
        self.following.withLock { $0[prediction.id] = nil }
      }
    }
  }

  private func tell(_ prediction: Prediction, _ webhook: Webhook) async {
    var last: ContinuousClock.Instant?
    for await event in prediction.events() {
      switch event {
      case .started where webhook.events.contains(.start):
        await call(webhook, prediction.record.asStarted, prediction)
      case .output where webhook.events.contains(.output),
        .logs where webhook.events.contains(.logs):
        let (now, record) = (ContinuousClock.now, prediction.record)
        // The end is told for itself.
        if record.status.isFinal || last.map({ now - $0 < Self.interval }) ?? false { continue }
        last = now
        await call(webhook, record, prediction)
      case .ended(let record) where webhook.events.contains(.completed):
        await call(webhook, record, prediction, retries: Self.retries)
      default: break
      }
    }
  }

  private func call(
    _ webhook: Webhook, _ record: PredictionRecord, _ prediction: Prediction, retries: Int = 0
  ) async {
    let body = JSONValue.object(webhook.body(record)).serialized()
    let id = Identifiers.make("msg_")
    var delay = Duration.milliseconds(100)
    for attempt in 0...retries {
      let outcome = await perform(
        WebhookCall(
          url: webhook.url, headers: secret.headers(id: id, time: Identifiers.now, body: body),
          body: body, allowsPrivate: allowsPrivate))
      var reason: String?
      var isFinal = attempt == retries
      switch outcome {
      case .answered(let status):
        if (200..<300).contains(status) { return }
        reason = "it answered \(status)"
        // Others mean that the call was understood.
        isFinal = isFinal || !(status == 429 || status >= 500)
      case .refused: (reason, isFinal) = ("private addresses are not called", true)
      case .failed(let text): reason = text
      }
      if !isFinal, !stop.isSet { isFinal = (try? await Task.sleep(for: delay)) == nil }
      if isFinal || stop.isSet {
        var metadata = place(prediction, webhook)
        metadata["reason"] = "\(reason ?? "")"
        logger.warning("a webhook was not delivered", metadata: metadata)
        return
      }
      delay *= 2
    }
  }

  private func perform(_ call: WebhookCall) async -> WebhookCall.Outcome {
    await withCheckedContinuation { continuation in
      queue.addOperation { [stop] in continuation.resume(returning: call.perform(until: stop)) }
    }
  }

  /// Waits for the calls of predictions that have ended, and not long.
  func settle() async {
    let tasks = following.withLock { Array($0.values) }
    await withTaskGroup { group in
      group.addTask { for task in tasks { await task.value } }
      group.addTask { [stop] in
        try? await Task.sleep(for: .seconds(Self.grace))
        if Task.isCancelled { return }
        stop.set()
        for task in tasks { task.cancel() }
      }
      await group.next()
      group.cancelAll()
    }
  }

  private func place(_ prediction: Prediction, _ webhook: Webhook) -> Logger.Metadata {
    ["prediction": "\(prediction.id)", "host": "\(webhook.host.shown)"]
  }
}
