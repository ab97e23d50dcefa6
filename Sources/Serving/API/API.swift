import Inference
import JSON
import Synchronization

/// Answers requests, whatever carries them: the routes, and whether there is a model yet.
final class API: Sendable {
  private enum State {
    case loading
    case ready(ServedModel)
    case closing(ServedModel?)
  }

  private let state = Mutex(State.loading)
  /// Seconds that running answers have once the server closes.
  private let grace: Int

  init(grace: Int) { self.grace = grace }

  /// From now on `model` answers; false where it comes too late.
  func serve(_ model: ServedModel) -> Bool {
    state.withLock {
      guard case .loading = $0 else { return false }
      $0 = .ready(model)
      return true
    }
  }

  /// Takes no more requests; those that run go on.
  func close() {
    state.withLock {
      switch $0 {
      case .loading: $0 = .closing(nil)
      case .ready(let model):
        model.engine.close()
        $0 = .closing(model)
      case .closing: break
      }
    }
  }

  /// Ends the requests that run.
  func stop() {
    close()
    let model: ServedModel? = state.withLock {
      if case .closing(let model) = $0 { model } else { nil }
    }
    model?.engine.stop()
  }

  /// - Throws: ``APIError`` while there is none.
  private func model() throws(APIError) -> ServedModel {
    let result: Result<ServedModel, APIError> = state.withLock {
      switch $0 {
      case .ready(let model): .success(model)
      case .loading: .failure(.unavailable("the model is loading", retryAfter: 2))
      case .closing: .failure(.unavailable("the server is shutting down", retryAfter: grace + 1))
      }
    }
    return try result.get()
  }

  /// - Throws: whatever an ``APIError`` can be made of; `CancellationError`.
  func respond(to request: APIRequest) async throws -> APIResponse {
    let routes = Self.routes.filter { $0.matches(request.path) }
    guard let route = routes.first(where: { $0.method == request.method }) else {
      if routes.isEmpty {
        throw APIError.notFound(
          "there is nothing at /\(request.path.joined(separator: "/"))".shown, code: "not_found")
      }
      var response = APIResponse(
        APIError(
          status: 405, type: "invalid_request_error", code: "method_not_allowed",
          message: "\(request.method) is not done here"))
      response.headers.append(("Allow", routes.map(\.method).joined(separator: ", ")))
      return response
    }
    return try await route.respond(self, request)
  }

  // MARK: - Routes

  private struct Route: Sendable {
    let method: String
    let path: [String]
    /// Whether more parts may follow.
    var takesRest = false
    let respond: @Sendable (API, APIRequest) async throws -> APIResponse

    func matches(_ parts: [String]) -> Bool {
      takesRest ? parts.starts(with: path) && parts.count > path.count : parts == path
    }
  }

  /// A route for a request with an object of fields, which may name the model.
  private static func post(
    _ path: [String],
    _ respond: @escaping @Sendable (RequestFields, ServedModel) async throws -> APIResponse
  ) -> Route {
    Route(method: "POST", path: path) { api, request in
      let model = try api.model()
      let fields = try RequestFields(body: request.body)
      let name = try fields.string("model")
      guard model.isNamed(name) else { throw APIError.unknownModel(name ?? "") }
      return try await respond(fields, model)
    }
  }

  private static let routes: [Route] = [
    Route(method: "GET", path: ["health"]) { api, _ in
      _ = try api.model()
      return .json(["status": "ok"])
    },
    Route(method: "GET", path: ["metrics"]) { api, _ in
      APIResponse(
        body: .text(
          Metrics.text(try api.model().engine.statistics),
          type: "text/plain; version=0.0.4; charset=utf-8"))
    },
    Route(method: "GET", path: ["v1", "models"]) { api, _ in
      .json(["object": "list", "data": .array([.object(try api.model().json)])])
    },
    Route(method: "GET", path: ["v1", "models"], takesRest: true) { api, request in
      let model = try api.model()
      // An id's slash may come as it is or escaped.
      let name = request.path.dropFirst(2).joined(separator: "/")
      guard model.isNamed(name) else { throw APIError.unknownModel(name) }
      return .json(model.json)
    },
    post(["v1", "chat", "completions"]) {
      try await ChatCompletions($0, model: $1).respond()
    },
    post(["v1", "completions"]) { try await Completions($0, model: $1).respond() },
    post(["tokenize"]) { try Tokens.tokenize($0, model: $1) },
    post(["detokenize"]) { try Tokens.detokenize($0, model: $1) },
    post(["apply-template"]) { fields, model in
      .json(["prompt": .string(try ChatPrompt(fields, model: model).render(model))])
    },
  ]
}
