import JSON

/// What the server's answers look like, for ``APIDocument``.
enum ResponseSchemas {
  private typealias Schema = OpenAPI

  static let all: JSONObject = [
    "ChatCompletion": completion("chat.completion", chatChoice),
    "Completion": completion("text_completion", textChoice),
    "Model": model,
    "ModelList": Schema.object([
      "object": .object(["const": "list"]), "data": Schema.array(Schema.reference("Model")),
      "results": Schema.array(Schema.reference("Model")), "next": null, "previous": null,
    ]),
    "Version": version,
    "VersionList": Schema.object([
      "results": Schema.array(Schema.reference("Version")), "next": null, "previous": null,
    ]),
    "Prediction": prediction,
    "PredictionPage": Schema.object([
      "results": Schema.array(Schema.reference("Prediction")),
      "next": Schema.orNull(Schema.string), "previous": Schema.orNull(Schema.string),
    ]),
    "WebhookSecret": Schema.object(["key": Schema.string]),
    "Tokens": Schema.object(
      ["tokens": .object(["type": "array"]), "count": Schema.integer]),
    "Content": Schema.object(["content": Schema.string]),
    "Prompt": Schema.object(["prompt": Schema.string]),
    "Listing": Schema.object([
      "facts": Schema.anyObject, "roles": Schema.array(Schema.anyObject),
      "tensors": Schema.array(Schema.anyObject),
    ]),
    "Health": Schema.object(["status": .object(["const": "ok"])]),
    "Document": Schema.object(["openapi": Schema.string, "paths": Schema.anyObject]),
    "Error": Schema.object(["error": error]),
    "Problem": Schema.object(problem, ["invalid_fields": Schema.array(Schema.anyObject)]),
    "ErrorAndProblem": Schema.object(
      JSONObject(problem.members + [(key: "error", value: error)])),
  ]

  private static let null: JSONValue = .object(["type": "null"])

  // MARK: - Completions

  private static func completion(_ object: JSONValue, _ choice: JSONValue) -> JSONValue {
    Schema.object([
      "id": Schema.string, "object": .object(["const": object]), "created": Schema.integer,
      "model": Schema.string, "choices": Schema.array(choice),
      "usage": Schema.object([
        "prompt_tokens": Schema.integer, "completion_tokens": Schema.integer,
        "total_tokens": Schema.integer,
        "prompt_tokens_details": Schema.object(["cached_tokens": Schema.integer]),
      ]),
    ])
  }

  private static let chatChoice = Schema.object([
    "index": Schema.integer,
    "message": Schema.object(
      [
        "role": .object(["const": "assistant"]), "content": Schema.orNull(Schema.string),
        "refusal": null,
      ],
      ["reasoning_content": Schema.string, "tool_calls": Schema.array(Schema.anyObject)]),
    "logprobs": Schema.orNull(Schema.anyObject), "finish_reason": Schema.string,
  ])

  private static let textChoice = Schema.object([
    "index": Schema.integer, "text": Schema.string,
    "logprobs": Schema.orNull(Schema.anyObject), "finish_reason": Schema.string,
  ])

  // MARK: - Models and predictions

  private static let time: JSONValue = .object(["type": "string", "format": "date-time"])
  private static let uri: JSONValue = .object(["type": "string", "format": "uri"])

  private static let model = Schema.object([
    "id": Schema.string, "object": .object(["const": "model"]), "created": Schema.integer,
    "owned_by": Schema.string, "max_model_len": Schema.integer, "url": uri,
    "owner": Schema.string, "name": Schema.string, "run_count": Schema.integer,
    "latest_version": Schema.reference("Version"),
  ])

  private static let version = Schema.object([
    "id": Schema.string, "created_at": time, "cog_version": Schema.string,
    "openapi_schema": Schema.anyObject,
  ])

  private static let prediction = Schema.object(
    [
      "id": Schema.string, "model": Schema.string, "version": Schema.string,
      "input": Schema.anyObject, "output": Schema.orNull(Schema.array(Schema.string)),
      "logs": Schema.string, "error": Schema.orNull(Schema.string),
      "status": .object([
        "enum": .array(["starting", "processing", "succeeded", "failed", "canceled"])
      ]),
      "data_removed": Schema.boolean, "source": .object(["const": "api"]), "created_at": time,
      "urls": Schema.object(["get": uri, "cancel": uri, "stream": uri, "web": uri]),
    ],
    [
      "started_at": time, "completed_at": time, "deadline": time, "metrics": Schema.anyObject,
    ])

  // MARK: - Errors

  private static let error = Schema.object([
    "message": Schema.string, "type": Schema.string, "param": Schema.orNull(Schema.string),
    "code": Schema.orNull(Schema.string),
  ])

  private static let problem: JSONObject = [
    "title": Schema.string, "detail": Schema.string, "status": Schema.integer,
  ]
}
