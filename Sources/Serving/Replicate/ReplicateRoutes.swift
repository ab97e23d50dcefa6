import Foundation
import JSON

extension API {
  static let replicateRoutes: [Route] = [
    Route(method: "POST", path: ["v1", "models", "**", "predictions"]) { api, request in
      let name = request.captures[0]
      let model = try api.models().named(name)
      return try await api.predict(request, fields: ["stream"]) { _ in (model, name) }
    },
    Route(method: "POST", path: ["v1", "predictions"]) { api, request in
      let models = try api.models()
      return try await api.predict(request, fields: ["stream", "version"]) {
        try API.model(ofVersion: try $0.string("version"), among: models)
      }
    },
    Route(method: "GET", path: ["v1", "webhooks", "default", "secret"]) { api, _ in
      .json(["key": .string(api.predictions.webhooks.secret.text)])
    },
    Route(method: "GET", path: ["v1", "predictions"]) { api, request in
      try await api.predictionList(request)
    },
    Route(method: "GET", path: ["v1", "predictions", "*"]) { api, request in
      .json(try await api.predictions.record(request.captures[0]).json(base: request.base))
    },
    Route(method: "POST", path: ["v1", "predictions", "*", "cancel"]) { api, request in
      .json(try await api.predictions.cancel(request.captures[0]).json(base: request.base))
    },
    Route(method: "GET", path: ["v1", "predictions", "*", "stream"]) { api, request in
      let events = try await api.predictions.events(request.captures[0])
      let lastID = request.header("last-event-id")
      return APIResponse(
        body: .frames { send in
          var frames = ReplicateFrames(after: lastID)
          for await event in events {
            let text = frames.frames(event)
            if !text.isEmpty { send(text) }
          }
          try Task.checkCancellation()
        })
    },
    Route(method: "GET", path: ["v1", "models"]) { api, request in
      var list: [JSONValue] = []
      for model in try api.models().all {
        list.append(.object(try await api.object(of: model, request)))
      }
      return .json([
        "object": "list", "data": .array(list), "results": .array(list), "next": .null,
        "previous": .null,
      ])
    },
    Route(method: "GET", path: ["v1", "models", "**", "versions"]) { api, request in
      let version = api.description(of: try api.models().named(request.captures[0])).version
      return .json(["results": .array([.object(version)]), "next": .null, "previous": .null])
    },
    Route(method: "GET", path: ["v1", "models", "**", "versions", "*"]) { api, request in
      let model = try api.models().named(request.captures[0])
      guard request.captures[1] == model.version else {
        throw APIError.notFound(
          "\(model.id) has no version '\(request.captures[1].shown)'", code: "version_not_found")
      }
      return .json(api.description(of: model).version)
    },
    // An id's slash may come as it is or escaped.
    Route(method: "GET", path: ["v1", "models", "**"]) { api, request in
      .json(try await api.object(of: try api.models().named(request.captures[0]), request))
    },
  ]

  // MARK: - Models

  func description(of model: ServedModel) -> ModelObject {
    ModelObject(
      model: model, allowsTemplates: model.allowsRequestTemplates,
      allowsShutdown: options.allowsShutdown)
  }

  private func object(of model: ServedModel, _ request: APIRequest) async throws -> JSONObject {
    description(of: model).json(
      base: request.base, runCount: try await predictions.count(version: model.version))
  }

  // MARK: - Predictions

  /// The model that `owner/name`, `owner/name:id` or `id` means, and its name as it was given.
  private static func model(
    ofVersion version: String?, among models: ServedModels
  ) throws(APIError) -> (ServedModel, String) {
    guard let version else { throw .unprocessable("version is required", "version") }
    let parts = version.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      .map(String.init)
    guard version.contains("/") else {
      if let model = models.all.first(where: { $0.version == version }) { return (model, model.id) }
      let served = models.all.map { "\($0.id) is \($0.version)" }.joined(separator: ", ")
      throw .unprocessable(
        "version '\(version.shown)' is not served here; that of \(served)", "version")
    }
    let model = try models.named(parts[0])
    if let id = parts.dropFirst().first, id != model.version {
      throw .unprocessable(
        "version '\(id.shown)' is not served here; that of \(model.id) is \(model.version)",
        "version")
    }
    return (model, parts[0])
  }

  /// Begins a prediction, and waits for it as far as the client wants to.
  private func predict(
    _ request: APIRequest, fields: Set<String>,
    _ choose: (PredictionRequest) throws -> (ServedModel, String)
  ) async throws -> APIResponse {
    let start = ContinuousClock.now
    let headers = try PredictionHeaders(request)
    let body = try PredictionRequest(request.body, fields: fields, requiresInput: true)
    let (model, name) = try choose(body)
    let base = request.base
    let webhook = try body.webhook(options) { $0.json(base: base) }
    let prediction = try await predictions.create(
      Predictions.Order(
        model: model, name: name, input: body.input, limit: headers.limit,
        allowsTemplates: model.allowsRequestTemplates, webhook: webhook))
    // As it began, unless it could not: clients that read the output as it grows take what is in this
    // answer for read.
    var record = prediction.record
    if record.started != nil { record = record.atStart }
    var status = 201
    if let wait = headers.wait, !headers.isAsynchronous {
      // A little less, so that the answer is there in time.
      let rest = Duration.seconds(wait) - .milliseconds(100) - (ContinuousClock.now - start)
      if let end = await prediction.end(within: max(rest, .zero)) {
        record = end
      } else {
        status = 202
      }
    }
    var response = APIResponse.json(record.json(base: request.base), status: status)
    if let applied = headers.applied, !headers.isAsynchronous {
      response.headers.append(("Preference-Applied", applied))
    }
    return response
  }

  private func predictionList(_ request: APIRequest) async throws -> APIResponse {
    // No page of the server's makes predictions of its own.
    if let source = request.query["source"] {
      guard source == "web" else { throw APIError.unprocessable("source may be web", "source") }
      return .json(["previous": .null, "next": .null, "results": .array([])])
    }
    var query = PredictionStore.Query()
    func date(_ name: String) throws(APIError) -> Date? {
      guard let text = request.query[name] else { return nil }
      guard let date = Date(timestamp: text) else {
        throw .unprocessable("\(name) must be a time such as 2026-01-31T12:00:00Z", name)
      }
      return date
    }
    query.createdAfter = try date("created_after")
    query.createdBefore = try date("created_before")
    if let text = request.query["cursor"] {
      guard let cursor = PredictionStore.Cursor(text) else {
        throw APIError.unprocessable("cursor is not one of this server's", "cursor")
      }
      query.cursor = cursor
    }
    let page = try await predictions.page(query)
    func url(_ cursor: PredictionStore.Cursor?) -> JSONValue {
      guard let cursor else { return .null }
      var items = request.query
      items["cursor"] = cursor.text
      var url = URLComponents()
      url.queryItems = items.sorted { $0.key < $1.key }.map {
        URLQueryItem(name: $0.key, value: $0.value)
      }
      return .string("\(request.base)/v1/predictions?\(url.percentEncodedQuery ?? "")")
    }
    return .json([
      "previous": url(page.newer), "next": url(page.older),
      "results": .array(page.records.map { .object($0.json(base: request.base)) }),
    ])
  }
}
