import Foundation
import JSON
import QuarryKit

extension API {
  static let cogRoutes: [Route] = [
    Route(method: "GET", path: []) { api, request in
      if request.header("accept")?.contains("text/html") == true { return Page.document }
      return .json([
        "cog_version": .string(CogSchema.version), "openapi_url": "/openapi.json",
        "shutdown_url": api.options.allowsShutdown ? "/shutdown" : nil,
        "healthcheck_url": "/health-check", "predictions_url": "/predictions",
        "predictions_idempotent_url": "/predictions/{prediction_id}",
        "predictions_cancel_url": "/predictions/{prediction_id}/cancel",
      ])
    },
    Route(method: "GET", path: ["health-check"]) { api, _ in .json(api.health) },
    Route(method: "GET", path: ["openapi.json"]) { api, _ in
      let schema = CogSchema(
        allowsTemplates: try api.models().standard.allowsRequestTemplates,
        allowsShutdown: api.options.allowsShutdown)
      return .json(schema.json)
    },
    Route(method: "POST", path: ["predictions"]) { api, request in
      try await api.cogPredict(request, id: nil)
    },
    Route(method: "PUT", path: ["predictions", "*"]) { api, request in
      try await api.cogPredict(request, id: request.captures[0])
    },
    Route(method: "POST", path: ["predictions", "*", "cancel"]) { api, request in
      guard let prediction = api.predictions.running(request.captures[0]) else {
        return .json([:], status: 404)
      }
      prediction.end(.canceled)
      return .json([:])
    },
    Route(method: "POST", path: ["shutdown"]) { api, _ in
      guard api.options.allowsShutdown else {
        throw APIError.forbidden("only a server started with --enable-shutdown ends on request")
      }
      api.shutDown()
      return .json([:])
    },
  ]

  /// How the server is, as far as it knows.
  private var health: JSONObject {
    let model = try? models().standard
    let isBusy =
      model.map {
        $0.engine.requestCount >= $0.engine.configuration.slots + $0.engine.configuration.maxQueue
      } ?? false
    let ready = model.map { Date(timeIntervalSince1970: Double($0.created)) }
    return [
      "status": model == nil ? "STARTING" : isBusy ? "BUSY" : "READY",
      "setup": .object([
        "started_at": .string(created.timestamp),
        "completed_at": ready.map { .string($0.timestamp) },
        "status": model == nil ? "starting" : "succeeded", "logs": "",
      ]),
      "version": .object(["cog": .string(CogSchema.version)]),
    ]
  }

  /// - Parameter id: in the path; nil where there is none.
  private func cogPredict(_ request: APIRequest, id: String?) async throws -> APIResponse {
    let model = try models().standard
    let headers = try PredictionHeaders(request)
    let body = try PredictionRequest(
      request.body.isEmpty ? Array("{}".utf8) : request.body, fields: nil, requiresInput: false)
    let named = try body.string("id")
    if let id, let named, id != named {
      throw APIError.unprocessable("id is '\(named.shown)', and another one in the path", "id")
    }
    let webhook = try body.webhook(options) { $0.cogJSON }
    try Self.checkContext(body.fields)
    if let id = id ?? named {
      // Whatever becomes of it, what is asked must make sense.
      _ = try PredictionInput(body.input, allowsTemplates: model.allowsRequestTemplates)
      guard id.wholeMatch(of: /[A-Za-z0-9_-]{1,128}/) != nil else {
        throw APIError.unprocessable("id must be 1 to 128 letters, digits, - and _", "id")
      }
      // Whoever asks again gets what there is.
      if let record = try await predictions.find(id) {
        if request.acceptsEvents { return try await cogStream(id) }
        return .json(record.cogJSON, status: record.status.isFinal ? 200 : 202)
      }
    }
    let prediction = try await predictions.create(
      Predictions.Order(
        id: id ?? named, model: model, name: model.id, input: body.input, limit: headers.limit,
        allowsTemplates: model.allowsRequestTemplates,
        webhook: webhook))
    if request.acceptsEvents { return Self.cogStream(prediction.id, prediction.events()) }
    if headers.isAsynchronous {
      return .json(["id": .string(prediction.id), "status": "starting"], status: 202)
    }
    guard let record = await prediction.end() else {
      // The client has left.
      prediction.end(.canceled)
      throw CancellationError()
    }
    return .json(record.cogJSON)
  }

  /// Texts for the model, of which this one makes nothing.
  private static func checkContext(_ fields: RequestFields) throws(APIError) {
    guard let context = fields["context"] else { return }
    guard let object = context.object, object.members.allSatisfy({ $0.value.string != nil }) else {
      throw .unprocessable("context must be an object of strings", "context")
    }
  }

  private func cogStream(_ id: String) async throws -> APIResponse {
    Self.cogStream(id, try await predictions.events(id))
  }

  private static func cogStream(
    _ id: String, _ events: AsyncStream<PredictionEvent>
  ) -> APIResponse {
    APIResponse(
      body: .frames { send in
        var frames = CogFrames(id: id)
        for await event in events { send(frames.frames(event)) }
        try Task.checkCancellation()
      })
  }
}

extension APIRequest {
  fileprivate var acceptsEvents: Bool { header("accept")?.contains("text/event-stream") ?? false }
}
