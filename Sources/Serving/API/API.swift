import Foundation
import Inference
import JSON
import QuarryKit
import Synchronization

/// Answers requests, whatever carries them: the routes, and whether there is a model yet.
final class API: Sendable {
  private enum State {
    case loading
    case ready(ServedModels)
    case closing(ServedModels?)
  }

  private let state = Mutex(State.loading)
  let options: ServerOptions
  let predictions: Predictions
  let created = Date()
  private let onShutdown = Mutex<(@Sendable () -> Void)?>(nil)

  init(_ options: ServerOptions, predictions: Predictions) {
    self.options = options
    self.predictions = predictions
  }

  /// From now on `models` answer; false where they come too late.
  func serve(_ models: ServedModels) -> Bool {
    state.withLock {
      guard case .loading = $0 else { return false }
      $0 = .ready(models)
      return true
    }
  }

  /// Takes no more requests; those that run go on.
  func close() {
    state.withLock {
      switch $0 {
      case .loading: $0 = .closing(nil)
      case .ready(let models):
        for model in models.all { model.engine.close() }
        $0 = .closing(models)
      case .closing: break
      }
    }
  }

  /// Ends the requests that run.
  func stop() {
    close()
    let models: ServedModels? = state.withLock {
      if case .closing(let models) = $0 { models } else { nil }
    }
    models?.stop()
  }

  /// What a client does who ends the server.
  func whenShutDown(_ action: @escaping @Sendable () -> Void) {
    onShutdown.withLock { $0 = action }
  }

  func shutDown() { onShutdown.withLock { $0 }?() }

  /// - Throws: ``APIError`` while there are none.
  func models() throws(APIError) -> ServedModels {
    let result: Result<ServedModels, APIError> = state.withLock { [options] in
      switch $0 {
      case .ready(let models): .success(models)
      case .loading: .failure(.unavailable("the model is loading", retryAfter: 2))
      case .closing:
        .failure(.unavailable("the server is shutting down", retryAfter: options.grace + 1))
      }
    }
    return try result.get()
  }

  /// - Throws: whatever an ``APIError`` can be made of; `CancellationError`.
  func respond(to request: APIRequest) async throws -> APIResponse {
    // The first path that fits is meant, with all that can be done there.
    guard let path = Self.routes.first(where: { $0.captures(request.path) != nil })?.path else {
      throw APIError.notFound(
        "there is nothing at /\(request.path.joined(separator: "/"))".shown, code: "not_found")
    }
    let routes = Self.routes.filter { $0.path == path }
    guard let route = routes.first(where: { $0.method == request.method }) else {
      var response = APIResponse(
        APIError(
          status: 405, type: "invalid_request_error", code: "method_not_allowed",
          message: "\(request.method) is not done here"), ErrorDialect(path: request.path))
      response.headers.append(("Allow", routes.map(\.method).joined(separator: ", ")))
      return response
    }
    var request = request
    request.captures = route.captures(request.path) ?? []
    return try await route.respond(self, request)
  }

  // MARK: - Routes

  struct Route: Sendable {
    let method: String
    /// Parts of the path; `*` stands for any one, `**` once for any number but none.
    let path: [String]
    let respond: @Sendable (API, APIRequest) async throws -> APIResponse

    /// What the stars of ``path`` stand for in `parts`; nil where that is another path.
    func captures(_ parts: [String]) -> [String]? {
      var captures: [String] = []
      var rest = parts[...]
      for part in path {
        let count = part == "**" ? parts.count - path.count + 1 : 1
        guard count > 0, count <= rest.count else { return nil }
        let taken = rest.prefix(count).joined(separator: "/")
        if part.hasPrefix("*") { captures.append(taken) } else if part != taken { return nil }
        rest = rest.dropFirst(count)
      }
      return rest.isEmpty ? captures : nil
    }
  }

  /// A route for a request with an object of fields, which may name the model.
  private static func post(
    _ path: [String],
    _ respond: @escaping @Sendable (RequestFields, ServedModel) async throws -> APIResponse
  ) -> Route {
    Route(method: "POST", path: path) { api, request in
      let models = try api.models()
      let fields = try RequestFields(body: request.body)
      return try await respond(fields, try models.named(try fields.string("model")))
    }
  }

  private static let routes = openAIRoutes + replicateRoutes + cogRoutes + pageRoutes

  static let openAIRoutes: [Route] = [
    Route(method: "GET", path: ["health"]) { api, _ in
      _ = try api.models()
      return .json(["status": "ok"])
    },
    Route(method: "GET", path: ["metrics"]) { api, _ in
      APIResponse(
        body: .text(
          Metrics.text(try api.models()),
          type: "text/plain; version=0.0.4; charset=utf-8"))
    },
    Route(method: "GET", path: ["v1", "openapi.json"]) { api, _ in
      .json(
        APIDocument(
          options: api.options,
          allowsTemplates: try api.models().standard.allowsRequestTemplates
        ).json)
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
