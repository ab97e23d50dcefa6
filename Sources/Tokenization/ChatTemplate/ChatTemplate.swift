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
    try render(variables, date: date, limits: TemplateLimits())
  }

  func render(
    _ variables: [(String, JSONValue)], date: TemplateDate, limits: TemplateLimits
  ) throws(TemplateError) -> String {
    var interpreter = try TemplateInterpreter(
      program, variables: variables, date: date, limits: limits)
    return try interpreter.render()
  }

  /// Renders a conversation, with the variables that transformers passes.
  public func render(_ input: ChatInput, date: TemplateDate) throws(TemplateError) -> String {
    try render(try input.templateVariables(), date: date)
  }
}
