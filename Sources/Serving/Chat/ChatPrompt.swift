import Inference
import JSON
import QuarryKit
import Tokenization

/// The conversation of a request, checked, and the prompt that a model's template makes of it.
struct ChatPrompt {
  static let roles = ["system", "developer", "user", "assistant", "tool"]
  /// Messages, tools and documents of a request, of each at most.
  static let limit = 4096
  /// Bytes of a template that a request brings.
  private static let templateLimit = 64 << 10

  let messages: [JSONValue]
  /// Descriptions of the tools that may be called; nil for none.
  let tools: [JSONValue]?
  private let documents: [JSONValue]?
  private let variables: JSONObject
  private let addGenerationPrompt: Bool
  private let template: ChatTemplate

  /// Reads `messages`, `tools`, `tool_choice`, `parallel_tool_calls`, `documents`, `reasoning_effort`,
  /// `chat_template_kwargs` and `add_generation_prompt`.
  ///
  /// - Throws: ``APIError``.
  init(_ fields: RequestFields, model: ServedModel) throws(APIError) {
    let ownTemplate = try Self.template(fields, model)
    guard let template = ownTemplate ?? model.template else {
      throw .invalid("the model has no chat template; use /v1/completions", "messages")
    }
    self.template = template
    try fields.refuse(["functions", "function_call"])
    guard let list = try fields.read(Field.messages) else {
      throw fields.wrong(Field.messages.name, Field.messages.expected)
    }
    var messages: [JSONValue] = []
    for (index, value) in list.enumerated() {
      messages.append(.object(try Self.message(value, index, model)))
    }
    self.messages = messages
    let tools = try Self.tools(fields)
    if tools != nil, ownTemplate == nil, !model.showsTools {
      throw .unsupported("the chat template of this model takes no tools", "tools")
    }
    self.tools = tools
    documents = try fields.read(Field.documents)
    variables = try Self.variables(fields)
    addGenerationPrompt = try fields.read(Field.addGenerationPrompt) ?? true
  }

  /// - Throws: `TemplateError`.
  func render(_ model: ServedModel) throws(TemplateError) -> String {
    try template.render(
      ChatInput(
        messages: .array(messages), tools: tools.map { .array($0) },
        documents: documents.map { .array($0) }, addGenerationPrompt: addGenerationPrompt,
        variables: variables, specialTokens: model.engine.model.specialTokens),
      date: .today())
  }

  /// The template that a request brings, where it may.
  private static func template(
    _ fields: RequestFields, _ model: ServedModel
  ) throws(APIError) -> ChatTemplate? {
    guard let source = try fields.read(Field.template) else { return nil }
    guard model.allowsRequestTemplates else {
      throw .unsupported(
        "templates of requests run only on a server started with --allow-request-templates",
        "chat_template")
    }
    guard source.utf8.count <= templateLimit else {
      throw fields.wrong("chat_template", "at most \(templateLimit) bytes long")
    }
    do throws(TemplateError) {
      return try ChatTemplate(source)
    } catch {
      throw .invalid("\(error)", "chat_template")
    }
  }

  /// A message as templates take it: its content one text, `developer` as `system`.
  private static func message(
    _ value: JSONValue, _ index: Int, _ model: ServedModel
  ) throws(APIError) -> JSONObject {
    let path = "messages[\(index)]"
    guard var message = value.object else { throw .invalid("\(path) must be an object", path) }
    let fields = RequestFields(message, path: path + ".")
    guard let role = try fields.string("role"), roles.contains(role) else {
      throw fields.wrong("role", "system, developer, user, assistant or tool")
    }
    try fields.refuse(["audio", "function_call"])
    var content = try text(fields)
    let calls = try toolCalls(fields)
    if content == nil, role != "assistant" || calls == nil {
      throw fields.wrong("content", "a string or an array of text parts")
    }
    if calls != nil, role != "assistant" {
      throw .invalid("\(path).tool_calls belongs into a message of the assistant", path)
    }
    message["tool_calls"] = calls.map { .array($0) }
    if let calls, !model.showsToolCalls {
      // The convention of Granite 3, whose templates know a message's content only.
      let list = JSONValue.array(calls.compactMap { $0["function"] })
      content = (content ?? "") + "<|tool_call|>" + list.serialized()
    }
    message["role"] = .string(role == "developer" ? "system" : role)
    message["content"] = .string(content ?? "")
    return message
  }

  /// The content: a string, or the texts of its parts, one after another on lines of their own.
  private static func text(_ fields: RequestFields) throws(APIError) -> String? {
    guard let content = fields["content"] else { return nil }
    if let text = content.string { return text }
    guard let parts = content.array else {
      throw fields.wrong("content", "a string or an array of text parts")
    }
    var texts: [String] = []
    for part in parts {
      guard part["type"]?.string == "text", let text = part["text"]?.string else {
        throw .unsupported("only text parts are supported", fields.path + "content")
      }
      texts.append(text)
    }
    return texts.joined(separator: "\n")
  }

  /// Calls that the assistant made before. Arguments are text by OpenAI's API, which templates copy.
  private static func toolCalls(_ fields: RequestFields) throws(APIError) -> [JSONValue]? {
    guard let calls = try fields.array("tool_calls"), !calls.isEmpty else { return nil }
    for call in calls {
      guard call["function"]?["name"]?.string != nil,
        call["function"]?["arguments"]?.string != nil
      else {
        throw fields.wrong("tool_calls", "calls with function.name and function.arguments")
      }
    }
    return calls
  }

  private static func tools(_ fields: RequestFields) throws(APIError) -> [JSONValue]? {
    if try fields.read(Field.parallelToolCalls) == false {
      throw .unsupported("the number of tool calls cannot be limited", "parallel_tool_calls")
    }
    let tools = try fields.read(Field.tools) ?? []
    guard
      tools.allSatisfy({
        $0["type"]?.string == "function" && $0["function"]?["name"]?.string != nil
      })
    else { throw fields.wrong(Field.tools.name, Field.tools.expected) }
    switch try fields.read(Field.toolChoice) {
    case nil: break
    case .string("auto"): break
    case .string("none"): return nil
    default:
      throw .unsupported(
        "tool_choice may be \(Field.toolChoice.expected): calls cannot be enforced",
        Field.toolChoice.name)
    }
    return tools.isEmpty ? nil : tools
  }

  /// What templates may know of thinking under several names, and what the request names itself.
  private static func variables(_ fields: RequestFields) throws(APIError) -> JSONObject {
    var variables = JSONObject()
    if let effort = try fields.read(Field.reasoningEffort) {
      variables = [
        "thinking": .bool(effort != "none"), "enable_thinking": .bool(effort != "none"),
        "reasoning_effort": .string(effort),
      ]
    }
    for (name, value) in try fields.read(Field.variables)?.members ?? [] {
      if ["messages", "tools", "documents", "add_generation_prompt"].contains(name) {
        throw .invalid("chat_template_kwargs may not hold \(name)", "chat_template_kwargs")
      }
      variables[name] = value
    }
    return variables
  }
}
