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
    var drawn = ContinuousClock.now
    var tenth = 0
    var shown = false
    /// When this run began to convert, and the bytes that were done then.
    var baseline: (time: ContinuousClock.Instant, byteCount: Int)?
    var error = MeanError()
    var weightedError = MeanError()
    var failure: (any Error)?
  }

  /// Mean of the tensors' errors, by their number of weights.
  private struct MeanError {
    var weightCount = 0
    var sum = 0.0

    mutating func add(_ error: Double, weightCount: Int) {
      self.weightCount += weightCount
      sum += Double(weightCount) * error
    }

    var text: String? {
      weightCount > 0 ? Format.significant(sum / Double(weightCount)) : nil
    }
  }

  private let verbose: Bool
  private let json: Bool
  private let start = ContinuousClock.now
  private let state = Mutex(State())

  init(verbose: Bool, json: Bool) {
    self.verbose = verbose
    self.json = json
  }

  /// Why standard output could not be written; the conversion should stop.
  var failure: (any Error)? { state.withLock { $0.failure } }

  func update(_ progress: Converter.Progress) {
    state.withLock { state in
      if state.baseline == nil { state.baseline = (ContinuousClock.now, progress.doneByteCount) }
      if let finished = progress.finished, let statistics = finished.statistics {
        let weights = finished.entry.tensor.elementCount
        state.error.add(statistics.normalizedMeanSquaredError, weightCount: weights)
        if let error = statistics.weightedError {
          state.weightedError.add(error, weightCount: weights)
        }
      }
      if json, state.failure == nil, let event = event(progress) {
        do { try write(event) } catch { state.failure = error }
      }
      if verbose, let line = line(progress) {
        clear(&state)
        Console.note(line)
      }
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
  func finish() { state.withLock { clear(&$0) } }

  private func clear(_ state: inout State) {
    if state.shown { Console.writeError("\r\u{1B}[K") }
    state.shown = false
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
    Console.note("converting: \(summary(progress, state)), \(Self.text(progress.stage))")
  }

  private func draw(_ progress: Converter.Progress, _ state: inout State) {
    let now = ContinuousClock.now
    guard
      now - state.drawn > .milliseconds(100) || progress.stage == .completing || !state.shown
    else { return }
    state.drawn = now
    state.shown = true
    let cells = 16
    let full = Int(Double(cells) * Self.fraction(progress))
    let bar = String(repeating: "█", count: full) + String(repeating: "░", count: cells - full)
    let line = "\(bar) \(summary(progress, state))  \(Self.text(progress.stage))"
    Console.writeError("\r\u{1B}[K" + line.prefix(Console.width - 1))
  }

  private static func fraction(_ progress: Converter.Progress) -> Double {
    progress.totalByteCount > 0
      ? min(1, Double(progress.doneByteCount) / Double(progress.totalByteCount)) : 1
  }

  /// What is being worked on.
  private static func text(_ stage: Converter.Stage) -> String {
    switch stage {
    case .calibrating(let layer, let layerCount, let done, let count):
      "calibrating layer \(layer + 1) of \(layerCount), \(count > 0 ? 100 * done / count : 100) %"
    case .encoding(let tensor): tensor
    case .completing: "completing the file"
    }
  }

  /// How far, how fast, how long still, how good.
  private func summary(_ progress: Converter.Progress, _ state: State) -> String {
    var parts = [
      "\(Int(100 * Self.fraction(progress))) %",
      "\(Format.bytes(progress.doneByteCount)) of \(Format.bytes(progress.totalByteCount))",
      "tensor \(progress.doneTensorCount) of \(progress.totalTensorCount)",
    ]
    if let baseline = state.baseline {
      let elapsed = (ContinuousClock.now - baseline.time) / .seconds(1)
      let done = progress.doneByteCount - baseline.byteCount
      if done > 0, elapsed > 0.5 {
        let speed = Double(done) / elapsed
        parts.append("\(Format.bytes(Int(speed)))/s")
        let left = Double(progress.totalByteCount - progress.doneByteCount) / speed
        if left > 0 { parts.append("\(Format.duration(left)) left") }
      }
    }
    if let error = state.error.text {
      parts.append("NMSE \(error)" + (state.weightedError.text.map { ", weighted \($0)" } ?? ""))
    }
    return parts.joined(separator: ", ")
  }
}

// MARK: - One thing at a time

extension ConversionReporter {
  /// The event for what has just happened; nil where that is none.
  private func event(_ progress: Converter.Progress) -> JSONValue? {
    var event: JSONObject
    if let finished = progress.finished {
      event = [
        "event": "tensor",
        "name": .string(finished.entry.tensor.name),
        "encoding": .string(finished.entry.encoding?.name ?? "f32"),
        "error": finished.statistics.map(\.json) ?? .null,
        "done_tensors": .integer(progress.doneTensorCount),
        "total_tensors": .integer(progress.totalTensorCount),
      ]
    } else if case .calibrating(let layer, let layerCount, let done, let count) = progress.stage {
      event = [
        "event": "calibration",
        "layer": .integer(layer),
        "layers": .integer(layerCount),
        "done_tokens": .integer(done),
        "total_tokens": .integer(count),
      ]
    } else {
      return nil
    }
    event["done_bytes"] = .integer(progress.doneByteCount)
    event["total_bytes"] = .integer(progress.totalByteCount)
    event["seconds"] = .double((ContinuousClock.now - start) / .seconds(1))
    return .object(event)
  }

  /// The line for what has just happened; nil where that is none.
  private func line(_ progress: Converter.Progress) -> String? {
    guard let finished = progress.finished else {
      guard case .calibrating(let layer, let layerCount, 0, let count) = progress.stage else {
        return nil
      }
      return "layer \(layer + 1) of \(layerCount): reading \(count) tokens of the calibration text"
    }
    let entry = finished.entry
    let shape = entry.tensor.shape.map(String.init).joined(separator: "×")
    let error = finished.statistics.map { statistics in
      ", NMSE \(Format.significant(statistics.normalizedMeanSquaredError)), "
        + (statistics.weightedError.map { "weighted \(Format.significant($0)), " } ?? "")
        + "max error \(Format.significant(statistics.maximumAbsoluteError)), "
        + "cosine \(Format.decimal(statistics.cosineSimilarity, 5))"
    }
    return
      "[\(progress.doneTensorCount)/\(progress.totalTensorCount)] \(entry.tensor.name) \(shape) "
      + "\(entry.sourceType.rawValue) → \(entry.encoding?.name ?? "f32"), "
      + "\(Format.bytes(entry.logicalByteCount))\(error ?? "")"
  }
}
