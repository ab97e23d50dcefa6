import Inference
import JSON
import TensorCore

/// What one completion took, beside what the machine could do at best.
struct RunStatistics {
  /// Seconds from the beginning of the program until the model was ready.
  let loadSeconds: Double
  /// Seconds from the beginning of the program to the first chosen token.
  let firstTokenSeconds: Double
  let summary: GenerationSummary
  let weightBytesPerToken: Int
  /// Of keys and values, and of the state of recurrent layers.
  let cacheByteCount: Int
  private let hasState: Bool
  /// The most that the process ever had in memory, before the ceilings were measured.
  let peakByteCount: Int?
  /// Bytes per second at which all threads read memory.
  let readBandwidth: Double
  /// Int8 operations per second of all threads; nil without kernels that have them.
  let int8Peak: Double?
  /// Of the read bandwidth; nil where nothing was decoded.
  let decodeShare: Double?
  /// Of the int8 peak.
  let prefillShare: Double?

  /// Measures the ceilings, which takes half a second, right after the completion, whose time the
  /// same other work on the machine took its part of.
  ///
  /// - Parameters:
  ///   - ready: when the model was loaded.
  ///   - asked: when the generator was made.
  init(
    _ summary: GenerationSummary, model: Model, session: Session, ready: ContinuousClock.Instant,
    asked: ContinuousClock.Instant
  ) {
    self.summary = summary
    loadSeconds = (ready - Quarry.start) / .seconds(1)
    firstTokenSeconds = (asked - Quarry.start + summary.prefillTime) / .seconds(1)
    peakByteCount = SystemMemory.peakByteCount
    cacheByteCount = session.cacheByteCount
    hasState = session.hasState
    let workload = model.workload(cacheType: session.cacheType)
    weightBytesPerToken = workload.weightByteCount
    readBandwidth = Ceilings.readBandwidth(pool: model.pool, byteCount: 512 << 20)
    int8Peak = (0..<3).compactMap { _ in Ceilings.int8Rate(pool: model.pool) }.max()
    // A decoded token reads the positions before it: on average, all but half of the answer.
    let positions = Double(session.position) - Double(summary.completionTokens) / 2
    decodeShare =
      summary.decodeRate > 0
      ? summary.decodeRate * workload.decodedByteCount(positions: positions) / readBandwidth : nil
    prefillShare = int8Peak.map {
      summary.prefillRate * 2 * Double(workload.linearWeightCount) / $0
    }
  }

  var json: JSONValue {
    .object([
      "load_seconds": .double(loadSeconds),
      "first_token_seconds": .double(firstTokenSeconds),
      "prompt_tokens": .integer(summary.promptTokens),
      "cached_tokens": .integer(summary.cachedTokens),
      "prompt_tokens_per_second": .double(summary.prefillRate),
      "share_of_int8_peak": prefillShare.map { .double($0) } ?? .null,
      "answer_tokens": .integer(summary.completionTokens),
      "answer_tokens_per_second": .double(summary.decodeRate),
      "share_of_read_bandwidth": decodeShare.map { .double($0) } ?? .null,
      "finish_reason": .string(summary.finishReason.rawValue),
      "peak_bytes": peakByteCount.map { .integer($0) } ?? .null,
      "cache_bytes": .integer(cacheByteCount),
      "weight_bytes_per_token": .integer(weightBytesPerToken),
      "read_bytes_per_second": .double(readBandwidth),
      "int8_operations_per_second": int8Peak.map { .double($0) } ?? .null,
    ])
  }

  /// A table for people.
  var text: String {
    func share(_ value: Double?, of ceiling: String) -> String {
      value.map { ", \(Format.decimal($0 * 100, 1)) % of \(ceiling)" } ?? ""
    }
    let bandwidth = "the \(Format.decimal(readBandwidth / 1e9, 1)) GB/s at which memory is read"
    let peak = "the int8 peak of \(Format.decimal((int8Peak ?? 0) / 1e12, 2)) Top/s"
    return """
      loading      \(Format.decimal(loadSeconds, 3)) s
      first token  \(Format.decimal(firstTokenSeconds, 3)) s after the program began
      prompt       \(summary.promptTokens) tokens, \(summary.cachedTokens) of them known already, at \
      \(Format.decimal(summary.prefillRate, 1)) tokens/s\(share(prefillShare, of: peak))
      answer       \(summary.completionTokens) tokens at \(Format.decimal(summary.decodeRate, 1)) \
      tokens/s\(share(decodeShare, of: bandwidth))
      memory       \(peakByteCount.map(Format.bytes) ?? "unknown") at most, of it \
      \(hasState ? "KV cache and state" : "KV cache") \(Format.bytes(cacheByteCount)); \(Format.bytes(weightBytesPerToken)) of weights for a token
      """
  }
}
