import JSON

/// Writes what happens to a prediction as the service's server-sent events.
///
/// The id of each says how many bytes of output and logs there were with it, so that whoever comes back
/// with it goes on from there, however the output is cut.
struct ReplicateFrames {
  private var outputCount = 0
  private var logCount = 0
  /// Bytes that the reader has.
  private let seenOutput: Int
  private let seenLogs: Int

  /// - Parameter lastID: of the last event that the reader has; nil for none.
  init(after lastID: String?) {
    let counts = (lastID ?? "").split(separator: "-").map { Int($0) ?? 0 }
    seenOutput = counts.first ?? 0
    seenLogs = counts.count > 1 ? counts[1] : 0
  }

  /// The events, in the bytes that carry them.
  mutating func frames(_ event: PredictionEvent) -> String {
    switch event {
    case .started: return ""
    case .output(let text):
      let rest = Self.rest(of: text, after: seenOutput - outputCount)
      outputCount += text.utf8.count
      return rest.isEmpty ? "" : frame("output", rest)
    case .logs(let text):
      let rest = Self.rest(of: text, after: seenLogs - logCount)
      logCount += text.utf8.count
      return rest.isEmpty ? "" : frame("logs", rest)
    case .ended(let record):
      switch record.status {
      case .failed:
        return frame("error", record.error ?? "") + frame("done", #"{"reason":"error"}"#)
      case .canceled: return frame("done", #"{"reason":"canceled"}"#)
      default: return frame("done", "{}")
      }
    }
  }

  private static func rest(of text: String, after count: Int) -> String {
    count <= 0 ? text : String(decoding: text.utf8.dropFirst(count), as: UTF8.self)
  }

  private func frame(_ name: String, _ data: String) -> String {
    let lines = data.split(omittingEmptySubsequences: false) { ["\n", "\r\n", "\r"].contains($0) }
    return "event: \(name)\nid: \(outputCount)-\(logCount)\n"
      + lines.map { "data: \($0)\n" }.joined() + "\n"
  }
}
