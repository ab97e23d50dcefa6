import JSON

extension ChatPrompt {
  /// The fields that are read.
  enum Field {
    static let messages = RequestField.array(
      "messages", message, expected: "an array of 1 to \(limit) messages", 1...limit)
    static let tools = RequestField.array(
      "tools", tool, expected: "an array of functions, each with function.name", 0...limit)
    static let toolChoice = RequestField<JSONValue>(
      "tool_choice", "\"auto\" or \"none\"", ["enum": .array(["auto", "none"])]
    ) { $0 }
    static let parallelToolCalls = RequestField.bool("parallel_tool_calls")
    static let documents = RequestField<[JSONValue]>(
      "documents", "an array of at most \(limit) objects",
      ["type": "array", "items": .object(["type": "object"]), "maxItems": .integer(limit)]
    ) { value in
      value.array.flatMap { $0.count <= limit && $0.allSatisfy { $0.object != nil } ? $0 : nil }
    }
    static let reasoningEffort = RequestField.choice(
      "reasoning_effort", ["none", "minimal", "low", "medium", "high", "xhigh"])
    static let variables = RequestField.object("chat_template_kwargs")
    static let addGenerationPrompt = RequestField.bool("add_generation_prompt")
    /// Described only where it may be used.
    static let template = RequestField.string("chat_template")

    static let all: [any DescribedField] = [
      messages, tools, toolChoice, parallelToolCalls, documents, reasoningEffort, variables,
      addGenerationPrompt,
    ]

    private static let text: JSONObject = ["type": "string"]
    private static let message: JSONObject = [
      "type": "object", "required": .array(["role", "content"]),
      "properties": .object([
        "role": .object(["enum": .array(roles.map { .string($0) })]),
        "content": .object([
          "oneOf": .array([.object(text), .object(["type": "array", "items": .object(textPart)])])
        ]),
      ]),
    ]
    private static let textPart: JSONObject = [
      "type": "object", "required": .array(["type", "text"]),
      "properties": .object(["type": .object(["const": "text"]), "text": .object(text)]),
    ]
    private static let tool: JSONObject = [
      "type": "object", "required": .array(["type", "function"]),
      "properties": .object([
        "type": .object(["const": "function"]),
        "function": .object([
          "type": "object", "required": .array(["name"]),
          "properties": .object(["name": .object(text)]),
        ]),
      ]),
    ]
  }
}
