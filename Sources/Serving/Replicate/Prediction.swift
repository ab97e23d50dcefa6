import Foundation
import Inference
import JSON
import QuarryKit
import Synchronization

/// What happens to a prediction.
enum PredictionEvent: Sendable {
  case started
  case output(String)
  case logs(String)
  /// The last event.
  case ended(PredictionRecord)
}

/// A prediction that runs: what it has come to, and who listens.
final class Prediction: Sendable {
  private struct State {
    var record: PredictionRecord
    var pieces: [String] = []
    var readers: [AsyncStream<PredictionEvent>.Continuation] = []
    var task: Task<Void, Never>?
    var promptTokens = 0
    var outputTokens = 0
    var started: ContinuousClock.Instant?
    var firstToken: ContinuousClock.Instant?
    /// The engine's own account, where the work was done.
    var summary: GenerationSummary?
    /// When the log last told how much of the prompt is read.
    var told: ContinuousClock.Instant?

    mutating func tell(_ event: PredictionEvent) {
      readers.removeAll {
        if case .terminated = $0.yield(event) { true } else { false }
      }
    }

    mutating func log(_ text: String) {
      record.logs += text
      tell(.logs(text))
    }
  }

  let id: String
  /// Whether each piece of the output stays one.
  private let streams: Bool
  private let created = ContinuousClock.now
  private let state: Mutex<State>

  init(_ record: PredictionRecord, streams: Bool) {
    id = record.id
    self.streams = streams
    state = Mutex(State(record: record))
  }

  var record: PredictionRecord {
    state.withLock { state in
      var record = state.record
      if streams, !state.pieces.isEmpty { record.output = state.pieces }
      return record
    }
  }

  /// Everything so far, and what comes.
  func events() -> AsyncStream<PredictionEvent> {
    let (stream, reader) = AsyncStream<PredictionEvent>.makeStream()
    state.withLock { state in
      if state.started != nil { reader.yield(.started) }
      if !state.record.logs.isEmpty { reader.yield(.logs(state.record.logs)) }
      for piece in state.pieces { reader.yield(.output(piece)) }
      if state.record.status.isFinal {
        reader.yield(.ended(state.record))
        reader.finish()
      } else {
        state.readers.append(reader)
      }
    }
    return stream
  }

  /// Waits for the end; nil where the task is cancelled.
  func end() async -> PredictionRecord? {
    for await event in events() {
      if case .ended(let record) = event { return record }
    }
    return nil
  }

  /// Waits for the end, but not longer than `duration`; nil where it has not come.
  func end(within duration: Duration) async -> PredictionRecord? {
    await withTaskGroup(of: PredictionRecord?.self) { group in
      group.addTask { await self.end() }
      group.addTask {
        try? await Task.sleep(for: duration)
        return nil
      }
      defer { group.cancelAll() }
      return await group.next() ?? nil
    }
  }

  // MARK: - What the work tells

  /// `task` does the work, and is cancelled with the prediction.
  func attach(_ task: Task<Void, Never>) {
    let isLate = state.withLock { state in
      state.task = task
      return state.record.status.isFinal
    }
    if isLate { task.cancel() }
  }

  /// Waits until the work has ended and the prediction is kept.
  func settle() async { await state.withLock(\.task)?.value }

  func append(_ piece: String) {
    state.withLock { state in
      if state.record.status.isFinal { return }
      state.pieces.append(piece)
      state.tell(.output(piece))
    }
  }

  func log(_ line: String) {
    state.withLock { state in if !state.record.status.isFinal { state.log(line + "\n") } }
  }

  func observe(_ event: EngineEvent) {
    state.withLock { state in
      if state.record.status.isFinal { return }
      switch event {
      case .reading(let position, let count):
        state.promptTokens = count
        if state.started == nil {
          state.started = .now
          state.record.started = Date()
          state.record.status = .processing
          state.tell(.started)
        }
        Self.logProgress(position, count, &state)
      case .chosen:
        state.outputTokens += 1
        state.firstToken = state.firstToken ?? .now
      case .finished(let summary): state.summary = summary
      case .prompt: break
      }
    }
  }

  /// Once a second, in the form that clients read progress from.
  private static func logProgress(_ position: Int, _ count: Int, _ state: inout State) {
    let now = ContinuousClock.now
    guard now - (state.told ?? state.started!) >= .seconds(1) else { return }
    state.told = now
    let tenths = position * 10 / count
    let bar = String(repeating: "█", count: tenths) + String(repeating: " ", count: 10 - tenths)
    state.log("\(position * 100 / count)%|\(bar)| \(position)/\(count) [reading the prompt]\n")
  }

  // MARK: - The end

  /// Ends the prediction unless it has ended before, and with it the work.
  @discardableResult
  func end(_ status: PredictionRecord.Status, error: String? = nil) -> PredictionRecord {
    let (record, task) = state.withLock { state in
      if !state.record.status.isFinal {
        state.record.status = status
        state.record.error = error
        state.record.completed = Date()
        state.record.metrics = metrics(state)
        if !state.pieces.isEmpty {
          state.record.output = streams ? state.pieces : [state.pieces.joined()]
        }
        state.tell(.ended(state.record))
        for reader in state.readers { reader.finish() }
        state.readers = []
      }
      return (state.record, state.task)
    }
    task?.cancel()
    return record
  }

  /// Times in seconds.
  private func metrics(_ state: State) -> JSONObject {
    let now = ContinuousClock.now
    func seconds(_ duration: Duration) -> JSONValue {
      .double((duration / .microseconds(1)).rounded() / 1_000_000)
    }
    let decodeTime = state.summary?.decodeTime ?? state.firstToken.map { now - $0 } ?? .zero
    let predictTime =
      state.summary.map { $0.prefillTime + $0.decodeTime } ?? now - (state.started ?? now)
    var rate: JSONValue?
    if state.outputTokens > 1, decodeTime > .zero {
      let value = Double(state.outputTokens - 1) / (decodeTime / .seconds(1))
      rate = .double((value * 1000).rounded() / 1000)
    }
    return [
      "predict_time": seconds(predictTime), "total_time": seconds(now - created),
      "token_input_count": .integer(state.promptTokens),
      "token_output_count": .integer(state.outputTokens),
      "time_to_first_token": state.firstToken.map { seconds($0 - created) },
      "tokens_per_second": rate,
    ]
  }
}
