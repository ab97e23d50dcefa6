import JSON

/// Why a request gets no answer, in the terms of OpenAI's API.
struct APIError: Error, Sendable {
  /// Of HTTP.
  let status: Int
  /// OpenAI's kind of error, which clients make classes of.
  let type: String
  /// What programs tell errors apart by.
  var code: String?
  /// The field at fault.
  var parameter: String?
  let message: String
  /// Seconds after which another try makes sense.
  var retryAfter: Int?

  /// The body of the answer, and the data of the event that ends a stream.
  var json: JSONValue {
    .object([
      "error": .object([
        "message": .string(message), "type": .string(type),
        "param": parameter.map { .string($0) } ?? .null, "code": code.map { .string($0) } ?? .null,
      ])
    ])
  }
}

extension APIError {
  /// A request that no server would take.
  static func invalid(
    _ message: String, _ parameter: String? = nil, code: String? = nil
  ) -> APIError {
    APIError(
      status: 400, type: "invalid_request_error", code: code, parameter: parameter,
      message: message)
  }

  /// A request that means something which is not done here, and would mean something else without.
  static func unsupported(_ message: String, _ parameter: String) -> APIError {
    .invalid(message, parameter, code: "unsupported_value")
  }

  static func notFound(_ message: String, code: String) -> APIError {
    APIError(status: 404, type: "invalid_request_error", code: code, message: message)
  }

  static func unknownModel(_ name: String) -> APIError {
    var error = APIError.notFound(
      "the model '\(name.shown)' is not served here; GET /v1/models lists those that are",
      code: "model_not_found")
    error.parameter = "model"
    return error
  }

  static let unauthorized = APIError(
    status: 401, type: "authentication_error", code: "invalid_api_key",
    message: "a valid key is required: Authorization: Bearer KEY")

  static func forbidden(_ message: String) -> APIError {
    APIError(status: 403, type: "permission_error", code: "forbidden", message: message)
  }

  static func tooLarge(_ limit: Int) -> APIError {
    APIError(
      status: 413, type: "invalid_request_error", code: "request_too_large",
      message: "the body is larger than \(limit) bytes")
  }

  static let slowBody = APIError(
    status: 408, type: "invalid_request_error", code: "request_timeout",
    message: "the body did not arrive in time")

  static func queueFull(_ message: String) -> APIError {
    APIError(
      status: 429, type: "rate_limit_error", code: "queue_full", message: message, retryAfter: 2)
  }

  static func unavailable(_ message: String, retryAfter: Int) -> APIError {
    APIError(
      status: 503, type: "unavailable_error", code: "unavailable", message: message,
      retryAfter: retryAfter)
  }

  static func server(_ message: String) -> APIError {
    APIError(status: 500, type: "server_error", code: "internal_error", message: message)
  }
}
