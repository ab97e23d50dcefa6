import JSON

/// Writes what happens to a prediction as Cog's server-sent events.
struct CogFrames {
  let id: String
  private var index = 0

  init(id: String) { self.id = id }

  /// The events, in the bytes that carry them.
  mutating func frames(_ event: PredictionEvent) -> String {
    switch event {
    case .started: return frame("start", ["id": .string(id), "status": "processing"])
    case .output(let text):
      defer { index += 1 }
      return frame("output", ["chunk": .string(text), "index": .integer(index)])
    case .logs(let text): return frame("log", ["source": "stdout", "data": .string(text)])
    case .ended(let record):
      let metrics = (record.metrics ?? [:]).members.map { name, value in
        frame("metric", ["name": .string(name), "value": value, "mode": "replace"])
      }
      return metrics.joined() + frame("completed", record.cogJSON)
    }
  }

  private func frame(_ name: String, _ data: JSONObject) -> String {
    "event: \(name)\ndata: \(JSONValue.object(data).serialized())\n\n"
  }
}

extension PredictionRecord {
  /// As Cog shows it.
  var cogJSON: JSONObject {
    [
      "id": .string(id), "version": .string(version), "status": .string(status.rawValue),
      "input": .object(input), "output": outputJSON, "logs": .string(logs),
      "error": error.map { .string($0) }, "metrics": metrics.map { .object($0) },
      "created_at": .string(created.timestamp),
      "started_at": started.map { .string($0.timestamp) },
      "completed_at": completed.map { .string($0.timestamp) },
    ]
  }
}
