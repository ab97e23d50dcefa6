import JSON
public import Tokenization

extension Model {
  /// The text that the model is given for `prompt`: the prompt itself when it is a raw completion
  /// (``isRawPrompt(_:)``), otherwise the chat template's rendering of it as the user's turn.
  ///
  /// - Throws: `TemplateError`, `TokenizerError`.
  public func prompt(
    for prompt: String, system: String? = nil, date: TemplateDate = .today()
  ) throws -> String {
    guard let chatTemplate = try chatTemplate, try !isRawPrompt(prompt) else { return prompt }
    let turns = (system.map { [("system", $0)] } ?? []) + [("user", prompt)]
    return try chatTemplate.render(chatInput(turns), date: date)
  }

  /// Whether `prompt` is completed as it is: when it begins with the first special token of the
  /// chat template's renderings, and always when there is no template.
  ///
  /// - Parameter template: what is used instead of the model's chat template.
  /// - Throws: `TemplateError` and `TokenizerError` for those that cannot be executed.
  public func isRawPrompt(_ prompt: String, template: ChatTemplate? = nil) throws -> Bool {
    guard let chatTemplate = try template ?? chatTemplate else { return true }
    return try messageStart(chatTemplate).map { prompt.startsWith($0.content) } ?? false
  }

  /// The token that messages of a chat begin with: the first special token of the chat template's
  /// renderings. Nil where there is none, or no tokenizer or template that can be executed.
  public var messageStart: TokenID? {
    guard let chatTemplate = try? chatTemplate else { return nil }
    return (try? messageStart(chatTemplate))?.id
  }

  private func messageStart(_ chatTemplate: ChatTemplate) throws -> AddedToken? {
    guard
      let tokenizer = try tokenizer,
      let rendering = try? chatTemplate.render(
        chatInput([("user", "")]), date: TemplateDate(year: 2000, month: 1, day: 1))
    else { return nil }
    return tokenizer.addedTokens.filter { $0.special && rendering.startsWith($0.content) }
      .max { $0.content.utf8.count < $1.content.utf8.count }
  }

  private func chatInput(_ turns: [(role: String, content: String)]) -> ChatInput {
    ChatInput(
      messages: .array(
        turns.map { .object(["role": .string($0.role), "content": .string($0.content)]) }),
      specialTokens: specialTokens)
  }
}

extension String {
  /// Whether the bytes begin with those of `prefix`; characters that combine do not hide it.
  fileprivate func startsWith(_ prefix: String) -> Bool {
    !prefix.isEmpty && utf8.starts(with: prefix.utf8)
  }
}
