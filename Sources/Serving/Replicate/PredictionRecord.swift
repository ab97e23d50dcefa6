import Foundation
import JSON

/// A prediction at one moment, as it is shown and kept.
struct PredictionRecord: Sendable {
  enum Status: String {
    case starting, processing, succeeded, failed, canceled

    var isFinal: Bool { self != .starting && self != .processing }
  }

  let id: String
  /// As the request has it.
  let model: String
  /// The root digest of the slab.
  let version: String
  var input: JSONObject
  var output: [String]?
  var logs = ""
  var error: String?
  var status = Status.starting
  let created: Date
  var started: Date?
  var completed: Date?
  /// When it is cancelled unless it has ended.
  let deadline: Date?
  var metrics: JSONObject?
  var dataRemoved = false

  init(
    id: String, model: String, version: String, input: JSONObject, created: Date, deadline: Date?
  ) {
    self.id = id
    self.model = model
    self.version = version
    self.input = input
    self.created = created
    self.deadline = deadline
  }

  /// Forgets what was said, where the prediction has ended before `date`.
  mutating func removeData(endedBefore date: Date) {
    guard let completed, completed < date else { return }
    (input, output, logs, dataRemoved) = (JSONObject(), nil, "", true)
  }

  /// As it was when it began: what a client is shown that waited in vain, and then goes on from.
  var atStart: PredictionRecord {
    PredictionRecord(
      id: id, model: model, version: version, input: input, created: created, deadline: deadline)
  }

  /// As it was when it began to run.
  var asStarted: PredictionRecord {
    var record = atStart
    (record.status, record.started) = (.processing, started)
    return record
  }

  /// - Parameter base: the server's address as the client has it, without a slash at its end.
  func json(base: String) -> JSONObject {
    let url = "\(base)/v1/predictions/\(id)"
    return [
      "id": .string(id), "model": .string(model), "version": .string(version),
      "input": .object(input), "logs": .string(logs), "output": outputJSON,
      "data_removed": .bool(dataRemoved), "error": error.map { .string($0) } ?? .null,
      "status": .string(status.rawValue), "source": "api",
      "created_at": .string(created.timestamp),
      "started_at": started.map { .string($0.timestamp) },
      "completed_at": completed.map { .string($0.timestamp) },
      "deadline": deadline.map { .string($0.timestamp) },
      "metrics": metrics.map { .object($0) },
      "urls": .object([
        "get": .string(url), "cancel": .string(url + "/cancel"), "stream": .string(url + "/stream"),
        "web": .string("\(base)/#\(id)"),
      ]),
    ]
  }

  var outputJSON: JSONValue { output.map { .array($0.map { .string($0) }) } ?? .null }

  /// 26 characters that nobody mistakes for others.
  static func makeID() -> String {
    let alphabet = Array("0123456789abcdefghjkmnpqrstvwxyz")
    return String((0..<26).map { _ in alphabet.randomElement()! })
  }
}

extension Date {
  /// Since 1970.
  var milliseconds: Int { Int((timeIntervalSince1970 * 1000).rounded()) }

  /// By RFC 3339, to the millisecond.
  var timestamp: String {
    let (seconds, rest) = milliseconds.quotientAndRemainder(dividingBy: 1000)
    let text = Date(timeIntervalSince1970: Double(seconds)).formatted(.iso8601)
    return text.dropLast() + "." + String(1000 + rest).dropFirst() + "Z"
  }

  /// A moment as clients write it, by RFC 3339 or as a date.
  init?(timestamp: String) {
    let styles: [Date.ISO8601FormatStyle] = [
      Date.ISO8601FormatStyle(includingFractionalSeconds: true), .iso8601,
      .iso8601.year().month().day(),
    ]
    guard let date = styles.lazy.compactMap({ try? $0.parse(timestamp) }).first else { return nil }
    self = date
  }
}
