public import JSON

/// A chat template: a Jinja template that turns a conversation into the text of a prompt.
///
/// Renders what transformers' `apply_chat_template` renders, byte for byte: Jinja's language as its
/// sandboxed environment with `trim_blocks`, `lstrip_blocks` and loop controls runs it, on values
/// that behave as Python's do. What is not supported is an error that names it. Parsing and
/// rendering are bounded (``TemplateLimits``), whatever the template says.
public struct ChatTemplate: Sendable {
  private let program: TemplateProgram

  /// Parses `source`.
  public init(_ source: String) throws(TemplateError) {
    var parser = try TemplateParser(source)
    program = try parser.parse()
  }

  /// Renders with `variables` by name (the last of several with one name counts).
  ///
  /// - Parameter date: What the template's `strftime_now` tells.
  public func render(
    _ variables: [(String, JSONValue)], date: TemplateDate
  ) throws(TemplateError) -> String {
    var interpreter = try TemplateInterpreter(program, variables: variables, date: date)
    return try interpreter.render()
  }

  /// Renders a conversation, with the variables that transformers passes.
  public func render(_ input: ChatInput, date: TemplateDate) throws(TemplateError) -> String {
    try render(input.templateVariables, date: date)
  }
}

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

  var templateVariables: [(String, JSONValue)] {
    specialTokens.map { ($0.key, .string($0.value)) } + [
      ("messages", messages), ("tools", tools ?? .null), ("documents", documents ?? .null),
      ("add_generation_prompt", .bool(addGenerationPrompt)),
    ] + variables.members.map { ($0.key, $0.value) }
  }
}
