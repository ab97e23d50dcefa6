import JSON

/// A request as far as it does not depend on how it arrived.
struct APIRequest: Sendable {
  /// Upper case.
  let method: String
  /// The path's parts, each with its percent escapes resolved.
  let path: [String]
  let body: [UInt8]
  /// Names the request in the log.
  let id: String
}

/// An answer as far as it does not depend on how it is sent.
struct APIResponse: Sendable {
  enum Body: Sendable {
    case json(JSONValue)
    case text(String, type: String)
    /// Server-sent events: called with what sends the data of one. An error that it throws becomes the
    /// last event.
    case events(@Sendable (_ send: @Sendable (String) -> Void) async throws -> Void)
  }

  var status = 200
  var headers: [(name: String, value: String)] = []
  var body: Body

  static func json(_ object: JSONObject, status: Int = 200) -> APIResponse {
    APIResponse(status: status, body: .json(.object(object)))
  }

  init(status: Int = 200, body: Body) {
    self.status = status
    self.body = body
  }

  init(_ error: APIError) {
    status = error.status
    body = .json(error.json)
    if let seconds = error.retryAfter { headers.append(("Retry-After", "\(seconds)")) }
    if error.status == 401 { headers.append(("WWW-Authenticate", "Bearer")) }
  }
}
