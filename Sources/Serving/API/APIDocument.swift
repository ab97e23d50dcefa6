import JSON

/// Describes by OpenAPI 3.1 what the server answers under /v1 and beside it: requests from the fields that
/// they are read by. Cog's paths have a document of their own, ``CogSchema``.
struct APIDocument {
  let options: ServerOptions
  let allowsTemplates: Bool

  var json: JSONObject {
    var schemas = ResponseSchemas.all
    for (name, schema) in requests.members { schemas[name] = schema }
    return [
      "openapi": "3.1.0",
      "info": .object([
        "title": "Quarry", "version": "1",
        "description": "Completions as OpenAI's API has them, predictions as Replicate's does.",
      ]),
      "security": options.keys.isEmpty ? nil : .array([.object(["key": .array([])])]),
      "paths": .object(paths),
      "components": .object([
        "schemas": .object(schemas),
        "securitySchemes": .object(["key": .object(["type": "http", "scheme": "bearer"])]),
      ]),
    ]
  }

  // MARK: - Requests

  private var requests: JSONObject {
    let model = RequestField.string("model")
    let template = allowsTemplates ? [ChatPrompt.Field.template] as [any DescribedField] : []
    let conversation = [model] + ChatPrompt.Field.all + template
    return [
      "ChatCompletionRequest": request(
        conversation + ChatCompletions.Field.all + SamplingFields.Field.all, ["messages"]),
      "CompletionRequest": request(
        [model] + Completions.Field.all + SamplingFields.Field.all, ["prompt"]),
      "TokenizeRequest": request(
        [model, Tokens.Field.content, Tokens.Field.withPieces], ["content"]),
      "DetokenizeRequest": request([model, Tokens.Field.tokens], ["tokens"]),
      "TemplateRequest": request(conversation, ["messages"]),
      "Input": .object(input),
      "ModelPredictionRequest": prediction([], []),
      "PredictionRequest": prediction([.string("version")], ["version"]),
    ]
  }

  /// An object of fields, of which those that are not required may be null.
  private func request(_ fields: [any DescribedField], _ required: [String]) -> JSONValue {
    let properties = fields.map { field in
      let schema = JSONValue.object(field.schema)
      return (
        key: field.name, value: required.contains(field.name) ? schema : OpenAPI.orNull(schema)
      )
    }
    return .object([
      "type": "object", "required": .array(required.map { .string($0) }),
      "properties": .object(JSONObject(properties)),
    ])
  }

  /// The inputs of predictions, as Cog's document has them, in the words of this version of OpenAPI.
  private var input: JSONObject {
    let schema = CogSchema(
      allowsTemplates: allowsTemplates, allowsShutdown: options.allowsShutdown
    ).input
    let properties = (schema["properties"]?.object ?? [:]).members.map { name, property in
      var plain = property.object ?? [:]
      plain["nullable"] = nil  // of OpenAPI 3.0
      return (key: name, value: OpenAPI.orNull(.object(plain)))
    }
    return ["type": "object", "properties": .object(JSONObject(properties))]
  }

  private func prediction(
    _ fields: [RequestField<String>], _ required: [String]
  ) -> JSONValue {
    let events = Webhook.Event.allCases.map { JSONValue.string($0.rawValue) }
    var properties: JSONObject = [
      "input": OpenAPI.reference("Input"), "stream": OpenAPI.orNull(OpenAPI.boolean),
      "webhook_events_filter": OpenAPI.orNull(
        OpenAPI.array(.object(["type": "string", "enum": .array(events)]))),
    ]
    if options.allowsWebhooks {
      properties["webhook"] = OpenAPI.orNull(.object(["type": "string", "format": "uri"]))
    }
    for field in fields { properties[field.name] = .object(field.schema) }
    return .object([
      "type": "object", "additionalProperties": false,
      "required": .array((["input"] + required).map { .string($0) }),
      "properties": .object(properties),
    ])
  }

  // MARK: - Paths

  private var paths: JSONObject {
    let owner = Self.parameter("owner"), name = Self.parameter("name")
    let prefer = Self.parameter("Prefer", in: "header")
    let cancelAfter = Self.parameter(
      "Cancel-After", in: "header", ["type": "string", "pattern": "^([5-9]|[1-9][0-9]{1,3})s$"])
    let time: JSONObject = ["type": "string", "format": "date-time"]
    let made = Answers("Prediction", statuses: [201, 202], errors: .replicate)
    let found = Answers("Prediction", errors: .replicate)
    let completions = Answers("ChatCompletion", streams: true, errors: .openAI)
    let all: [(String, [Operation.Method: Operation])] = [
      (
        "/v1/chat/completions",
        [
          .post: Operation("chat", body: "ChatCompletionRequest", answers: completions)
        ]
      ),
      (
        "/v1/completions",
        [
          .post: Operation(
            "complete", body: "CompletionRequest",
            answers: Answers("Completion", streams: true, errors: .openAI))
        ]
      ),
      ("/v1/models", [.get: Operation("models", answers: Answers("ModelList", errors: .both))]),
      (
        "/v1/models/{owner}/{name}",
        [
          .get: Operation("model", [owner, name], answers: Answers("Model", errors: .both))
        ]
      ),
      (
        "/v1/models/{owner}/{name}/versions",
        [
          .get: Operation(
            "versions", [owner, name], answers: Answers("VersionList", errors: .replicate))
        ]
      ),
      (
        "/v1/models/{owner}/{name}/versions/{id}",
        [
          .get: Operation(
            "version", [owner, name, Self.parameter("id")],
            answers: Answers("Version", errors: .replicate))
        ]
      ),
      (
        "/v1/models/{owner}/{name}/predictions",
        [
          .post: Operation(
            "predictWithModel", [owner, name, prefer, cancelAfter], body: "ModelPredictionRequest",
            answers: made)
        ]
      ),
      (
        "/v1/predictions",
        [
          .get: Operation(
            "predictions",
            [
              Self.parameter("created_after", in: "query", time),
              Self.parameter("created_before", in: "query", time),
              Self.parameter("source", in: "query", ["type": "string", "enum": .array(["web"])]),
            ], answers: Answers("PredictionPage", errors: .replicate)),
          .post: Operation(
            "predict", [prefer, cancelAfter], body: "PredictionRequest", answers: made),
        ]
      ),
      (
        "/v1/predictions/{id}",
        [
          .get: Operation("prediction", [Self.parameter("id")], answers: found)
        ]
      ),
      (
        "/v1/predictions/{id}/cancel",
        [
          .post: Operation("cancel", [Self.parameter("id")], answers: found)
        ]
      ),
      (
        "/v1/predictions/{id}/stream",
        [
          .get: Operation(
            "stream", [Self.parameter("id")],
            answers: Answers(
              type: Answers.events, schema: Answers.event, errors: .replicate))
        ]
      ),
      (
        "/v1/webhooks/default/secret",
        [
          .get: Operation("webhookSecret", answers: Answers("WebhookSecret", errors: .openAI))
        ]
      ),
      (
        "/v1/openapi.json",
        [
          .get: Operation("document", answers: Answers("Document", errors: .openAI))
        ]
      ),
      (
        "/tokenize",
        [
          .post: Operation(
            "tokenize", body: "TokenizeRequest", answers: Answers("Tokens", errors: .openAI))
        ]
      ),
      (
        "/detokenize",
        [
          .post: Operation(
            "detokenize", body: "DetokenizeRequest", answers: Answers("Content", errors: .openAI))
        ]
      ),
      (
        "/apply-template",
        [
          .post: Operation(
            "applyTemplate", body: "TemplateRequest", answers: Answers("Prompt", errors: .openAI))
        ]
      ),
      (
        "/inspect",
        [
          .get: Operation(
            "inspect", [Self.parameter("model", in: "query")],
            answers: Answers("Listing", errors: .openAI))
        ]
      ),
      ("/health", [.get: Operation("health", answers: Answers("Health", errors: .openAI))]),
      (
        "/metrics",
        [
          .get: Operation("metrics", answers: Answers(type: "text/plain", errors: .openAI))
        ]
      ),
    ]
    return all.json
  }

  private static func parameter(
    _ name: String, in place: String = "path", _ schema: JSONObject = ["type": "string"]
  ) -> JSONValue {
    .object([
      "name": .string(name), "in": .string(place), "required": .bool(place == "path"),
      "schema": .object(schema),
    ])
  }
}

/// What can be done at a path.
private struct Operation {
  enum Method: String {
    case get, post
  }

  let json: JSONValue

  init(
    _ id: JSONValue, _ parameters: [JSONValue] = [], body: String? = nil, answers: Answers
  ) {
    json = .object([
      "operationId": id, "parameters": parameters.isEmpty ? nil : .array(parameters),
      "requestBody": body.map {
        .object(["required": true, "content": OpenAPI.content(OpenAPI.reference($0))])
      },
      "responses": .object(answers.json(hasBody: body != nil)),
    ])
  }
}

extension [(String, [Operation.Method: Operation])] {
  fileprivate var json: JSONObject {
    JSONObject(
      map { path, operations in
        (
          key: path,
          value: .object(
            JSONObject(
              operations.sorted { $0.key.rawValue < $1.key.rawValue }.map {
                (key: $0.key.rawValue, value: $0.value.json)
              }))
        )
      })
  }
}

/// What an operation answers.
private struct Answers {
  static let events = "text/event-stream"
  static let event = OpenAPI.object(
    ["data": OpenAPI.string], ["event": OpenAPI.string, "id": OpenAPI.string])

  private let statuses: [Int]
  private let content: JSONObject
  private let errors: ErrorDialect

  /// - Parameters:
  ///   - schema: of what is answered.
  ///   - streams: whether it may be events instead.
  init(_ schema: String, statuses: [Int] = [200], streams: Bool = false, errors: ErrorDialect) {
    self.statuses = statuses
    self.errors = errors
    var content = OpenAPI.content(OpenAPI.reference(schema)).object!
    if streams { content[Self.events] = .object(["schema": Self.event]) }
    self.content = content
  }

  /// A text of this type, or events.
  init(type: String, schema: JSONValue = OpenAPI.string, errors: ErrorDialect) {
    statuses = [200]
    content = OpenAPI.content(schema, type: type).object!
    self.errors = errors
  }

  /// - Parameter hasBody: whether requests have one, of which more can be said.
  func json(hasBody: Bool) -> JSONObject {
    let error =
      switch errors {
      case .openAI: OpenAPI.content(OpenAPI.reference("Error"))
      case .both: OpenAPI.content(OpenAPI.reference("ErrorAndProblem"))
      case .replicate, .cog:
        OpenAPI.content(OpenAPI.reference("Problem"), type: "application/problem+json")
      }
    var result = JSONObject()
    for status in statuses {
      result["\(status)"] = .object(["description": "Done", "content": .object(content)])
    }
    let refusals: [(Int, JSONValue)] = [
      (400, "The request is wrong"), (401, "A key is missing"), (403, "Not for this caller"),
      (404, "There is no such thing"), (408, "The body came too slowly"),
      (413, "The body is too large"), (422, "A value is wrong"), (429, "The queue is full"),
      (503, "The server is loading or ending"),
    ]
    for (status, text) in refusals where hasBody || ![408, 413, 429].contains(status) {
      result["\(status)"] = .object(["description": text, "content": error])
    }
    return result
  }
}
