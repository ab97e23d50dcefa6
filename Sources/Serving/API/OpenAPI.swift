import JSON

/// Parts of descriptions by OpenAPI.
enum OpenAPI {
  static func reference(_ name: String) -> JSONValue {
    .object(["$ref": .string("#/components/schemas/\(name)")])
  }

  /// A body of one kind.
  static func content(_ schema: JSONValue, type: String = "application/json") -> JSONValue {
    .object([type: .object(["schema": schema])])
  }

  /// An object of which some members are always there.
  static func object(_ required: JSONObject, _ others: JSONObject = [:]) -> JSONValue {
    .object([
      "type": "object", "required": .array(required.members.map { .string($0.key) }),
      "properties": .object(JSONObject(required.members + others.members)),
    ])
  }

  static func array(_ items: JSONValue) -> JSONValue {
    .object(["type": "array", "items": items])
  }

  static func orNull(_ schema: JSONValue) -> JSONValue {
    .object(["anyOf": .array([schema, .object(["type": "null"])])])
  }

  static let string: JSONValue = .object(["type": "string"])
  static let integer: JSONValue = .object(["type": "integer"])
  static let number: JSONValue = .object(["type": "number"])
  static let boolean: JSONValue = .object(["type": "boolean"])
  static let anyObject: JSONValue = .object(["type": "object"])
}
