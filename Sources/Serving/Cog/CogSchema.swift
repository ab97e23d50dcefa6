import JSON

/// Describes a model's predictions as Cog does, from the table of inputs that requests are checked by.
struct CogSchema {
  /// The release of Cog whose HTTP API this is.
  static let version = "0.17.0"

  let allowsTemplates: Bool
  let allowsShutdown: Bool

  /// A document of OpenAPI 3.
  var json: JSONObject {
    [
      "openapi": "3.0.2", "info": .object(["title": "Cog", "version": "0.1.0"]),
      "paths": .object(paths),
      "components": .object([
        "schemas": .object([
          "Input": .object(input), "Output": .object(Self.output), "Status": .object(Self.status),
          "WebhookEvent": .object(Self.webhookEvent), "PredictionRequest": .object(Self.request),
          "PredictionResponse": .object(Self.response),
          "HTTPValidationError": .object(Self.validationErrors),
          "ValidationError": .object(Self.validationError),
        ])
      ]),
    ]
  }

  /// The inputs, with the places that forms show them in.
  var input: JSONObject {
    var properties = JSONObject()
    for (index, field) in InputField.all.enumerated()
    where field.isOffered(allowsTemplates: allowsTemplates) {
      var property = field.kind.schema
      property["title"] = .string(Self.title(field.name))
      property["description"] = .string(field.summary)
      property["default"] = field.standard
      property["nullable"] = true
      property["x-order"] = .integer(index)
      properties[field.name] = .object(property)
    }
    return ["title": "Input", "type": "object", "properties": .object(properties)]
  }

  private static func title(_ name: String) -> String {
    name.split(separator: "_").map { $0.prefix(1).uppercased() + $0.dropFirst() }
      .joined(separator: " ")
  }

  static let output: JSONObject = [
    "title": "Output", "type": "array", "items": .object(["type": "string"]),
    "x-cog-array-type": "iterator", "x-cog-array-display": "concatenate",
  ]

  private static let status: JSONObject = [
    "title": "Status", "description": "Where a prediction is.", "type": "string",
    "enum": .array(["starting", "processing", "succeeded", "canceled", "failed"]),
  ]

  private static let webhookEvent: JSONObject = [
    "title": "WebhookEvent", "description": "What a webhook may be called for.",
    "type": "string", "enum": .array(["start", "output", "logs", "completed"]),
  ]

  private static func object(_ title: JSONValue, _ properties: JSONObject) -> JSONObject {
    ["title": title, "type": "object", "properties": .object(properties)]
  }

  private static let request = object(
    "PredictionRequest",
    [
      "id": .object([
        "type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$", "nullable": true,
      ]),
      "input": .object(["allOf": .array([OpenAPI.reference("Input")]), "nullable": true]),
      "context": .object([
        "type": "object", "nullable": true, "additionalProperties": .object(["type": "string"]),
      ]),
      "webhook": .object(["type": "string", "nullable": true]),
      "webhook_events_filter": .object([
        "type": "array", "items": OpenAPI.reference("WebhookEvent"), "nullable": true,
      ]),
    ])

  private static let response: JSONObject = {
    let text: JSONValue = .object(["type": "string"])
    let time: JSONValue = .object(["type": "string", "format": "date-time"])
    let things: JSONValue = .object(["type": "object", "additionalProperties": true])
    return object(
      "PredictionResponse",
      [
        "id": text, "version": text, "status": OpenAPI.reference("Status"), "input": things,
        "output": .object([
          "allOf": .array([OpenAPI.reference("Output")]), "nullable": true,
        ]),
        "logs": text, "error": text, "metrics": things, "created_at": time, "started_at": time,
        "completed_at": time,
      ])
  }()

  private static let validationErrors = object(
    "HTTPValidationError",
    [
      "detail": .object([
        "oneOf": .array([
          .object(["type": "string"]),
          .object(["type": "array", "items": OpenAPI.reference("ValidationError")]),
        ])
      ])
    ])

  private static let validationError = object(
    "ValidationError",
    [
      "loc": .object(["type": "array", "items": .object(["type": "string"])]),
      "msg": .object(["type": "string"]), "type": .object(["type": "string"]),
    ])

  // MARK: - Paths

  private var paths: JSONObject {
    let answer = Self.answer("PredictionResponse")
    let wrong = Self.answer("HTTPValidationError")
    let body: JSONValue = .object([
      "content": OpenAPI.content(OpenAPI.reference("PredictionRequest"))
    ])
    let id: JSONValue = .object([
      "name": "prediction_id", "in": "path", "required": true,
      "schema": .object(["type": "string"]),
    ])
    let responses: JSONValue = .object([
      "200": answer, "202": answer, "400": wrong, "409": Self.answer(nil), "422": wrong,
      "503": Self.answer(nil),
    ])
    let plain: JSONValue = .object(["200": Self.answer(nil)])
    func operation(
      _ id: JSONValue, _ responses: JSONValue, body: JSONValue? = nil, _ parameters: JSONValue...
    ) -> JSONValue {
      .object([
        "operationId": id, "requestBody": body,
        "parameters": parameters.isEmpty ? nil : .array(parameters), "responses": responses,
      ])
    }
    let prefer: JSONValue = .object([
      "name": "Prefer", "in": "header", "required": false, "schema": .object(["type": "string"]),
    ])
    return [
      "/": .object(["get": operation("root", plain)]),
      "/health-check": .object(["get": operation("healthcheck", plain)]),
      "/openapi.json": .object(["get": operation("openapi", plain)]),
      "/predictions": .object(["post": operation("predict", responses, body: body, prefer)]),
      "/predictions/{prediction_id}": .object([
        "put": operation("predict_idempotent", responses, body: body, id, prefer)
      ]),
      "/predictions/{prediction_id}/cancel": .object([
        "post": operation(
          "cancel", .object(["200": Self.answer(nil), "404": Self.answer(nil)]), id)
      ]),
      "/shutdown": allowsShutdown ? .object(["post": operation("shutdown", plain)]) : nil,
    ]
  }

  private static func answer(_ name: String?) -> JSONValue {
    .object([
      "description": .string(name ?? "An object"),
      "content": OpenAPI.content(name.map(OpenAPI.reference) ?? OpenAPI.anyObject),
    ])
  }
}

extension InputField.Kind {
  /// The type, as JSON Schema names it.
  fileprivate var schema: JSONObject {
    switch self {
    case .text: ["type": "string"]
    case .integer: ["type": "integer"]
    case .number: ["type": "number"]
    case .truth: ["type": "boolean"]
    case .object: ["type": "object", "additionalProperties": true]
    case .objects: ["type": "array", "items": .object(["type": "object"])]
    }
  }
}
