import Foundation
import JSON

/// What the body of a request for a prediction asks, whichever of the paths it comes to.
struct PredictionRequest {
  let fields: RequestFields
  let input: JSONObject

  /// - Parameters:
  ///   - names: of the fields that the body may have besides; nil where others do not matter.
  ///   - requiresInput: whether the inputs may not be left out.
  /// - Throws: ``APIError``.
  init(_ body: [UInt8], fields names: Set<String>?, requiresInput: Bool) throws {
    fields = try RequestFields(body: body)
    let known = names?.union(["input", "webhook", "webhook_events_filter"])
    if let known, let other = fields.object.members.first(where: { !known.contains($0.key) })?.key {
      throw APIError.unprocessable("'\(other.shown)' is no field of a prediction", other.shown)
    }
    guard let input = fields["input"] else {
      if requiresInput { throw APIError.unprocessable("input is required", "input") }
      self.input = JSONObject()
      return
    }
    guard let object = input.object else {
      throw APIError.unprocessable("input must be an object, not \(input.kind)", "input")
    }
    self.input = object
  }

  /// Whom to call about the prediction.
  ///
  /// - Parameters:
  ///   - options: whether there may be calls at all.
  ///   - body: what is sent of a prediction.
  /// - Throws: ``APIError``.
  func webhook(
    _ options: ServerOptions, body: @escaping @Sendable (PredictionRecord) -> JSONObject
  ) throws(APIError) -> Webhook? {
    var events = Set(Webhook.Event.allCases)
    if let filter = fields["webhook_events_filter"] {
      let names = filter.array?.map { $0.string.flatMap { Webhook.Event(rawValue: $0) } }
      guard let names, !names.contains(nil) else {
        throw .unprocessable(
          "webhook_events_filter must be an array of start, output, logs and completed",
          "webhook_events_filter")
      }
      events = Set(names.compactMap { $0 })
    }
    guard let url = try string("webhook") else { return nil }
    guard options.allowsWebhooks else {
      throw .unprocessable(
        "webhook is refused: only a server started with --allow-webhooks calls others; poll "
          + "urls.get or read urls.stream", "webhook")
    }
    return try Webhook(
      url, events: events, allowsPrivate: options.allowsPrivateWebhooks, body: body)
  }

  /// A field that is a string where it is there.
  ///
  /// - Throws: ``APIError``.
  func string(_ name: String) throws(APIError) -> String? {
    guard let value = fields[name] else { return nil }
    guard let text = value.string else {
      throw .unprocessable("\(name) must be a string, not \(value.kind)", name)
    }
    return text
  }
}

/// What the headers of a request for a prediction ask.
struct PredictionHeaders {
  /// Seconds to wait for the end; nil not to wait.
  var wait: Int?
  /// The preference that is met, as it was asked for.
  var applied: String?
  /// Whether nothing is to be waited for though that is the rule.
  var isAsynchronous = false
  /// Seconds that the prediction may take.
  var limit: Int?

  /// Reads `Prefer` and `Cancel-After`.
  ///
  /// - Throws: ``APIError``.
  init(_ request: APIRequest) throws(APIError) {
    for part in (request.header("prefer") ?? "").split(separator: ",") {
      let preference = part.trimmingCharacters(in: .whitespaces)
      if preference == "respond-async" { isAsynchronous = true }
      guard preference == "wait" || preference.hasPrefix("wait=") else { continue }
      let seconds = preference == "wait" ? 60 : Int(preference.dropFirst(5)) ?? 0
      guard (1...60).contains(seconds) else {
        throw .unprocessable("Prefer must be wait or wait=n with n from 1 to 60", "Prefer")
      }
      (wait, applied) = (seconds, preference)
    }
    guard let text = request.header("cancel-after") else { return }
    guard let span = TimeSpan(text), span.seconds >= 5 else {
      throw .unprocessable(
        "Cancel-After must be a time of at least 5 seconds, such as 90s, 5m or 1h30m",
        "Cancel-After")
    }
    limit = span.seconds
  }
}
