import JSON

/// A request as far as it does not depend on how it arrived.
struct APIRequest: Sendable {
  /// Upper case.
  let method: String
  /// The path's parts, each with its percent escapes resolved.
  let path: [String]
  /// Items of the query.
  let query: [String: String]
  /// By names in lower case.
  let headers: [String: String]
  /// By which the client calls the server, with the port.
  let host: String
  let body: [UInt8]
  /// Names the request in the log.
  let id: String
  /// What the stars of the route's path stand for.
  var captures: [String] = []

  func header(_ name: String) -> String? { headers[name] }

  /// The server's address as the client has it; before a proxy that does TLS it begins with https.
  var base: String {
    (header("x-forwarded-proto") == "https" ? "https://" : "http://") + host
  }
}

/// An answer as far as it does not depend on how it is sent.
struct APIResponse: Sendable {
  enum Body: Sendable {
    case json(JSONValue)
    case text(String, type: String)
    /// Server-sent events: called with what sends the data of one. An error that it throws becomes the
    /// last event.
    case events(@Sendable (_ send: @Sendable (String) -> Void) async throws -> Void)
    /// Server-sent events too, called with what sends one in the bytes that carry it.
    case frames(@Sendable (_ send: @Sendable (String) -> Void) async throws -> Void)
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
}
