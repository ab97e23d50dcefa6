import Foundation
import JSON
import Logging

/// A log on standard error, each event a line: for people, or as JSON for programs.
struct ServerLog: LogHandler {
  enum Form: String, CaseIterable {
    case text, json
  }

  private let form: Form
  var metadata: Logger.Metadata = [:]
  var logLevel: Logger.Level

  init(_ form: Form, level: Logger.Level) {
    self.form = form
    logLevel = level
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let fields = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
    let time = Date.now.formatted(.iso8601)
    let message = "\(event.message)"
    switch form {
    case .text:
      let words = fields.map { " \($0.key)=\("\($0.value)".shown(atMost: .max))" }.joined()
      Console.note("\(time) \(event.level) \(message.shown(atMost: .max))\(words)")
    case .json:
      var object: JSONObject = [
        "time": .string(time), "level": .string(event.level.rawValue), "message": .string(message),
      ]
      for (name, value) in fields { object[name] = Self.json(value) }
      Console.note(JSONValue.object(object).serialized())
    }
  }

  /// Numbers stay numbers.
  private static func json(_ value: Logger.Metadata.Value) -> JSONValue {
    switch value {
    case .stringConvertible(let number as Int): .integer(number)
    default: .string("\(value)")
    }
  }
}
