import JSON

/// How an error is written, which depends on whose API the path belongs to.
enum ErrorDialect {
  case openAI, replicate, both, cog

  init(path: [String]) {
    switch (path.first, path.dropFirst().first) {
    case ("v1", "predictions"): self = .replicate
    case ("v1", "models"):
      self =
        path.count > 3 && path.suffix(2).contains { ["predictions", "versions"].contains($0) }
        ? .replicate : .both
    case (nil, _), ("predictions", _), ("health-check", _), ("openapi.json", _), ("shutdown", _):
      self = .cog
    default: self = .openAI
    }
  }
}

extension APIResponse {
  init(_ error: APIError, _ dialect: ErrorDialect) {
    var headers: [(name: String, value: String)] = []
    if let seconds = error.retryAfter { headers.append(("Retry-After", "\(seconds)")) }
    if error.status == 401 { headers.append(("WWW-Authenticate", "Bearer")) }
    switch dialect {
    case .openAI: self.init(status: error.status, body: .json(error.json))
    case .replicate:
      self.init(status: error.status, body: .json(.object(error.problem)))
      headers.append(("Content-Type", "application/problem+json"))
    case .both:
      var object = error.problem
      object["error"] = error.json["error"]
      self.init(status: error.status, body: .json(.object(object)))
    case .cog:
      // Clients of Cog know a full server by this status.
      self.init(status: error.status == 429 ? 409 : error.status, body: .json(error.cogJSON))
    }
    self.headers = headers
  }
}

extension APIError {
  /// By RFC 9457, with the field at fault.
  fileprivate var problem: JSONObject {
    let titles = [
      400: "Bad request", 401: "Unauthenticated", 403: "Forbidden", 404: "Not found",
      405: "Method not allowed", 408: "Request timeout", 409: "Conflict", 413: "Request too large",
      422: "Input validation failed", 429: "Too many requests", 503: "Service unavailable",
    ]
    return [
      "title": .string(titles[status] ?? "Internal server error"), "detail": .string(message),
      "status": .integer(status),
      "invalid_fields": status == 422
        ? parameter.map {
          .array([.object(["field": .string($0), "description": .string(message)])])
        } : nil,
    ]
  }

  fileprivate var cogJSON: JSONValue {
    if status == 429 {
      return .object([
        "error": "At capacity - all prediction slots busy", "status": "failed",
      ])
    }
    guard status == 422, let parameter else { return .object(["detail": .string(message)]) }
    let place = ["body"] + parameter.split(separator: ".").map(String.init)
    return .object([
      "detail": .array([
        .object([
          "loc": .array(place.map { .string($0) }), "msg": .string(message), "type": "value_error",
        ])
      ])
    ])
  }
}
