import Foundation
import JSON
import Logging
import QuarryKit
import Synchronization

/// All predictions: those that run, and those that are kept.
final class Predictions: Sendable {
  private let store: PredictionStore
  /// Seconds after its end for which what was said in a prediction is kept.
  private let retention: Int
  private let logger: Logger
  let webhooks: Webhooks
  private let live = Mutex<[String: Prediction]>([:])

  init(store: PredictionStore, retention: Int, webhooks: Webhooks, logger: Logger) {
    self.store = store
    self.retention = retention
    self.webhooks = webhooks
    self.logger = logger
    Task { [weak self] in
      while let delay = await self?.removeOldData() { try await Task.sleep(for: delay) }
    }
  }

  /// What a prediction is made of.
  struct Order {
    /// Chosen by the client; nil for a new one.
    var id: String?
    let model: ServedModel
    /// The model's name as the request has it.
    let name: String
    let input: JSONObject
    /// Seconds that it may take.
    var limit: Int?
    let allowsTemplates: Bool
    var webhook: Webhook?
  }

  /// Begins a prediction. One that the model does not take fails at once.
  ///
  /// - Throws: ``APIError`` for inputs of a wrong kind; ``EngineError`` where there is no room; errors of
  ///   the store.
  func create(_ order: Order) async throws -> Prediction {
    let input = try PredictionInput(order.input, allowsTemplates: order.allowsTemplates)
    let created = Date()
    let prediction = Prediction(
      PredictionRecord(
        id: order.id ?? PredictionRecord.makeID(), model: order.name, version: order.model.version,
        input: order.input, created: created,
        deadline: order.limit.map { created.addingTimeInterval(Double($0)) }),
      streams: input.streams)
    prediction.log("seed: \(input.seed)")
    if input.messages != nil, input.prompt != nil || input.systemPrompt != nil {
      prediction.log("there are messages: prompt and system_prompt do not count")
    }
    if !input.unknown.isEmpty {
      prediction.log("no inputs of this model: \(input.unknown.joined(separator: ", "))")
    }
    let outcome = Result { try Predictor(model: order.model, name: order.name).submit(input) }
    if case .failure(let error as EngineError) = outcome { throw error }
    if case .failure(let error) = outcome {
      prediction.end(.failed, error: Predictor.describe(error))
    }
    let isNew = live.withLock { live in
      if live[prediction.id] != nil { return false }
      live[prediction.id] = prediction
      return true
    }
    guard isNew else { throw APIError.conflict("prediction '\(prediction.id)' has just begun") }
    // The work does not wait for the disk.
    let insertion = Task { [store, record = prediction.record] in try await store.insert(record) }
    let work = try? outcome.get()
    if let work { start(prediction, work, limit: order.limit, after: insertion) }
    do {
      try await insertion.value
    } catch {
      prediction.end(.canceled)
      live.withLock { $0[prediction.id] = nil }
      throw error
    }
    if work == nil { live.withLock { $0[prediction.id] = nil } }
    if let webhook = order.webhook { webhooks.follow(prediction, for: webhook) }
    return prediction
  }

  private func start(
    _ prediction: Prediction, _ work: PredictionWork, limit: Int?,
    after insertion: Task<Void, any Error>
  ) {
    let clock = limit.map { limit in
      Task {
        try await Task.sleep(for: .seconds(limit))
        prediction.end(.canceled)
      }
    }
    prediction.attach(
      Task {
        do {
          try await work.run({ prediction.observe($0) }, { prediction.append($0) })
          prediction.end(.succeeded)
        } catch is CancellationError {
          prediction.end(.canceled)
        } catch {
          prediction.end(.failed, error: Predictor.describe(error))
        }
        clock?.cancel()
        if case .success = await insertion.result { await self.keep(prediction) }
      })
  }

  private func keep(_ prediction: Prediction) async {
    do {
      // On a task of its own: that of the work may be cancelled.
      try await Task { [store] in try await store.update(prediction.record) }.value
    } catch {
      logger.error("a prediction is not kept: \("\(error)".shown)")
    }
    live.withLock { $0[prediction.id] = nil }
  }

  /// Waits until no prediction runs, and those who wait for a call have had it.
  func settle() async {
    for prediction in live.withLock({ Array($0.values) }) { await prediction.settle() }
    await webhooks.settle()
  }

  /// Once everything is settled.
  func end() { store.end() }

  // MARK: - What there is

  /// The prediction `id` where it runs.
  func running(_ id: String) -> Prediction? { live.withLock { $0[id] } }

  /// - Throws: ``APIError`` where there is none; errors of the store.
  func record(_ id: String) async throws -> PredictionRecord {
    guard let record = try await find(id) else { throw APIError.noPrediction(id) }
    return record
  }

  func find(_ id: String) async throws -> PredictionRecord? {
    if let prediction = running(id) { return prediction.record }
    return try await store.find(id).map(shown)
  }

  /// What has happened to a prediction, and what will.
  ///
  /// - Throws: as ``record(_:)``.
  func events(_ id: String) async throws -> AsyncStream<PredictionEvent> {
    if let prediction = running(id) { return prediction.events() }
    let record = try await record(id)
    return AsyncStream { reader in
      if record.started != nil { reader.yield(.started) }
      if !record.logs.isEmpty { reader.yield(.logs(record.logs)) }
      for piece in record.output ?? [] { reader.yield(.output(piece)) }
      reader.yield(.ended(record))
      reader.finish()
    }
  }

  /// Ends a prediction unless it has ended.
  ///
  /// - Throws: as ``record(_:)``.
  func cancel(_ id: String) async throws -> PredictionRecord {
    if let prediction = running(id) { return prediction.end(.canceled) }
    return try await record(id)
  }

  /// - Throws: errors of the store.
  func page(_ query: PredictionStore.Query) async throws -> PredictionStore.Page {
    var page = try await store.page(query)
    page.records = page.records.map { running($0.id)?.record ?? shown($0) }
    return page
  }

  /// Predictions of a version that there have been.
  func count(version: String) async throws -> Int { try await store.count(version: version) }

  // MARK: - What is forgotten

  private var horizon: Date { Date().addingTimeInterval(-Double(retention)) }

  private func shown(_ record: PredictionRecord) -> PredictionRecord {
    var record = record
    record.removeData(endedBefore: horizon)
    return record
  }

  /// - Returns: when to do it again.
  private func removeOldData() async -> Duration {
    do {
      try await store.removeData(endedBefore: horizon)
    } catch {
      logger.error("old predictions are not removed: \("\(error)".shown)")
    }
    return .seconds(min(max(retention / 10, 1), 60))
  }
}

extension APIError {
  static func conflict(_ message: String) -> APIError {
    APIError(status: 409, type: "invalid_request_error", code: "conflict", message: message)
  }

  static func noPrediction(_ id: String) -> APIError {
    .notFound("there is no prediction '\(id.shown)'", code: "prediction_not_found")
  }
}
