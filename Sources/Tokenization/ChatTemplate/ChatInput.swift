public import JSON

/// A conversation and what goes with it, as a chat template sees them.
public struct ChatInput: Sendable {
  /// An array of objects, commonly with `role` and `content`.
  public var messages: JSONValue
  /// An array of tool descriptions; nil is the template's `none`.
  public var tools: JSONValue?
  /// An array of documents; nil is the template's `none`.
  public var documents: JSONValue?
  /// Whether the prompt ends with the head of the answer that the model is to write.
  public var addGenerationPrompt: Bool
  /// Further variables, such as `thinking` or `controls`; they override all others.
  public var variables: JSONObject
  /// Texts of special tokens by the name that templates use: `bos_token`, `eos_token`…
  public var specialTokens: [String: String]

  /// A conversation and what goes with it; see the properties.
  public init(
    messages: JSONValue, tools: JSONValue? = nil, documents: JSONValue? = nil,
    addGenerationPrompt: Bool = true, variables: JSONObject = JSONObject(),
    specialTokens: [String: String] = [:]
  ) {
    self.messages = messages
    self.tools = tools
    self.documents = documents
    self.addGenerationPrompt = addGenerationPrompt
    self.variables = variables
    self.specialTokens = specialTokens
  }

  /// The variables as transformers 5 passes them.
  func templateVariables() throws(TemplateError) -> [(String, JSONValue)] {
    guard let list = messages.array else {
      throw TemplateError("the messages are \(messages.kind), not an array", line: 1)
    }
    var messages: [JSONValue] = []
    for message in list {
      guard let object = message.object else {
        throw TemplateError("a message is \(message.kind), not an object", line: 1)
      }
      messages.append(.object(Self.normalized(object)))
    }
    return specialTokens.map { ($0.key, .string($0.value)) } + [
      ("messages", .array(messages)), ("tools", tools ?? .null), ("documents", documents ?? .null),
      ("add_generation_prompt", .bool(addGenerationPrompt)),
    ] + variables.members.map { ($0.key, $0.value) }
  }

  /// A message without the members that are null; reasoning under both names that templates read.
  private static func normalized(_ message: JSONObject) -> JSONObject {
    let message = JSONObject(message.members.filter { !$0.value.isNull })
    let names = ["reasoning_content", "thinking", "reasoning"]
    guard let reasoning = names.lazy.compactMap({ message[$0] }).first else { return message }
    var result: JSONObject = ["thinking": reasoning]
    for (name, value) in message.members { result[name] = value }
    result["reasoning_content"] = reasoning
    return result
  }
}
