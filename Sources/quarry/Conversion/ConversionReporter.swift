import Conversion
import Foundation
import JSON
import ModelFiles
import Synchronization
import TensorCore

/// Says how far a conversion is: a bar on a terminal, otherwise a line now and then; with `verbose` a
/// line for each tensor; with `json` an object for each tensor on standard output.
final class ConversionReporter: Sendable {
  private struct State {
    var drawn: ContinuousClock.Instant
    var tenth = 0
    var shown = false
    /// Bytes that were done when this run began.
    var baseline: Int?
    var weightCount = 0
    var errorSum = 0.0
    var failure: (any Error)?
  }

  private let verbose: Bool
  private let json: Bool
  private let start = ContinuousClock.now
  private let state: Mutex<State>

  init(verbose: Bool, json: Bool) {
    self.verbose = verbose
    self.json = json
    state = Mutex(State(drawn: start))
  }

  /// Why standard output could not be written; the conversion should stop.
  var failure: (any Error)? { state.withLock { $0.failure } }

  func update(_ progress: Converter.Progress) {
    state.withLock { state in
      if state.baseline == nil { state.baseline = progress.doneByteCount }
      if let finished = progress.finished { add(finished, progress, &state) }
      if Console.errorIsTerminal {
        draw(progress, &state)
      } else {
        note(progress, &state)
      }
    }
  }

  /// Writes an object on a line of standard output.
  func write(_ event: JSONValue) throws {
    try Console.write(event.serialized() + "\n")
  }

  /// Removes the bar.
  func finish() {
    state.withLock { state in
      if state.shown { Console.writeError("\r\u{1B}[K") }
      state.shown = false
    }
  }

  private func add(
    _ finished: Converter.FinishedTensor, _ progress: Converter.Progress, _ state: inout State
  ) {
    if let statistics = finished.statistics {
      let weights = finished.entry.tensor.elementCount
      state.weightCount += weights
      state.errorSum += Double(weights) * statistics.normalizedMeanSquaredError
    }
    if json, state.failure == nil {
      do { try write(event(finished, progress)) } catch { state.failure = error }
    }
    if verbose {
      if state.shown { Console.writeError("\r\u{1B}[K") }
      state.shown = false
      Console.note(line(finished, progress))
    }
  }

  private func event(
    _ finished: Converter.FinishedTensor, _ progress: Converter.Progress
  ) -> JSONValue {
    let entry = finished.entry
    return .object([
      "event": "tensor",
      "name": .string(entry.tensor.name),
      "encoding": .string(entry.encoding?.name ?? "f32"),
      "error": finished.statistics.map(\.json) ?? .null,
      "done_tensors": .integer(progress.doneTensorCount),
      "total_tensors": .integer(progress.totalTensorCount),
      "done_bytes": .integer(progress.doneByteCount),
      "total_bytes": .integer(progress.totalByteCount),
      "seconds": .double((ContinuousClock.now - start) / .seconds(1)),
    ])
  }

  private func line(
    _ finished: Converter.FinishedTensor, _ progress: Converter.Progress
  ) -> String {
    let entry = finished.entry
    let shape = entry.tensor.shape.map(String.init).joined(separator: "×")
    let error = finished.statistics.map { statistics in
      ", NMSE \(Format.significant(statistics.normalizedMeanSquaredError)), "
        + "max error \(Format.significant(statistics.maximumAbsoluteError)), "
        + "cosine \(Format.decimal(statistics.cosineSimilarity, 5))"
    }
    return
      "[\(progress.doneTensorCount)/\(progress.totalTensorCount)] \(entry.tensor.name) \(shape) "
      + "\(entry.sourceType.rawValue) → \(entry.encoding?.name ?? "f32"), "
      + "\(Format.bytes(entry.logicalByteCount))\(error ?? "")"
  }

  private func note(_ progress: Converter.Progress, _ state: inout State) {
    let tenth = Int(10 * Self.fraction(progress))
    let now = ContinuousClock.now
    // Nothing of what is over at once; then every tenth, and at least every half minute.
    guard !verbose, now - start > .seconds(2),
      tenth > state.tenth || now - state.drawn > .seconds(30)
    else { return }
    state.tenth = tenth
    state.drawn = now
    Console.note("converting: \(summary(progress, state))")
  }

  private func draw(_ progress: Converter.Progress, _ state: inout State) {
    let now = ContinuousClock.now
    guard now - state.drawn > .milliseconds(100) || progress.tensor == nil else { return }
    state.drawn = now
    state.shown = true
    let cells = 16
    let full = Int(Double(cells) * Self.fraction(progress))
    let bar = String(repeating: "█", count: full) + String(repeating: "░", count: cells - full)
    let line = "\(bar) \(summary(progress, state))  \(progress.tensor ?? "")"
    Console.writeError("\r\u{1B}[K" + line.prefix(Console.width - 1))
  }

  private static func fraction(_ progress: Converter.Progress) -> Double {
    progress.totalByteCount > 0
      ? min(1, Double(progress.doneByteCount) / Double(progress.totalByteCount)) : 1
  }

  /// How far, how fast, how long still, how good.
  private func summary(_ progress: Converter.Progress, _ state: State) -> String {
    var parts = [
      "\(Int(100 * Self.fraction(progress))) %",
      "\(Format.bytes(progress.doneByteCount)) of \(Format.bytes(progress.totalByteCount))",
      "tensor \(progress.doneTensorCount) of \(progress.totalTensorCount)",
    ]
    let elapsed = (ContinuousClock.now - start) / .seconds(1)
    let done = progress.doneByteCount - (state.baseline ?? 0)
    if done > 0, elapsed > 0.5 {
      let speed = Double(done) / elapsed
      parts.append("\(Format.bytes(Int(speed)))/s")
      let left = Double(progress.totalByteCount - progress.doneByteCount) / speed
      if left > 0 { parts.append("\(Format.duration(left)) left") }
    }
    if state.weightCount > 0 {
      parts.append("NMSE \(Format.significant(state.errorSum / Double(state.weightCount)))")
    }
    return parts.joined(separator: ", ")
  }
}
