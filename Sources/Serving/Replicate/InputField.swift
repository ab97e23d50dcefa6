import JSON

/// An input of a prediction: what it takes, what counts without it, and how the schema shows it.
struct InputField: Sendable {
  enum Kind {
    case text, integer, number, truth, object, objects

    /// What is accepted, as the end of "it must be …".
    var expected: String {
      switch self {
      case .text: "a string"
      case .integer: "a whole number"
      case .number: "a number"
      case .truth: "true or false"
      case .object: "an object"
      case .objects: "an array of objects"
      }
    }

    /// The value as it is worked with; nil for one of another kind.
    func accept(_ value: JSONValue) -> JSONValue? {
      switch self {
      case .text: value.string.map { .string($0) }
      case .integer:
        (value.integer ?? value.double.flatMap { Int(exactly: $0) }).map { .integer($0) }
      case .number: value.double.map { .double($0) }
      case .truth: value.bool.map { .bool($0) }
      case .object: value.object.map { .object($0) }
      case .objects: value.array?.allSatisfy { $0.object != nil } == true ? value : nil
      }
    }
  }

  let name: String
  let kind: Kind
  /// What counts where the input is left out; nil for nothing.
  let standard: JSONValue?
  let summary: String

  init(_ name: String, _ kind: Kind, _ standard: JSONValue?, _ summary: String) {
    self.name = name
    self.kind = kind
    self.standard = standard
    self.summary = summary
  }
}

extension InputField {
  /// The inputs of granite-3.3-8b-instruct in their published order, with their published defaults.
  /// Clients rely on the first one being the prompt.
  static let all = [
    InputField("prompt", .text, nil, "What the user says."),
    InputField(
      "messages", .objects, .array([]),
      "A conversation, each message with role and content. Prompt and system prompt do not count "
        + "beside it."),
    InputField(
      "documents", .objects, .array([]),
      "Documents for the chat template, each with text, doc_id and title."),
    InputField("tools", .objects, .array([]), "Functions that the model may call."),
    InputField(
      "system_prompt", .text, nil,
      "What the model is to be; without it the chat template says so."),
    InputField(
      "chat_template", .text, nil,
      "A Jinja template that makes the prompt, in place of the model's own."),
    InputField(
      "add_generation_prompt", .truth, true, "Whether the prompt ends with the head of an answer."),
    InputField(
      "chat_template_kwargs", .object, .object([:]),
      "Further variables of the chat template, such as {\"thinking\": true}."),
    InputField("min_tokens", .integer, 0, "Tokens to generate at least."),
    InputField("max_tokens", .integer, 512, "Tokens to generate at most."),
    InputField(
      "temperature", .number, 0.6, "How freely tokens are chosen; 0 always takes the best one."),
    InputField(
      "top_p", .number, 0.9,
      "Below 1, the choice is among the fewest of the likeliest tokens that have this probability "
        + "together."),
    InputField(
      "top_k", .integer, 50, "Above 0, the choice is among this many of the likeliest tokens."),
    InputField(
      "presence_penalty", .number, 0, "Makes tokens less likely that have been generated before."),
    InputField(
      "frequency_penalty", .number, 0,
      "Makes tokens less likely for every time that they have been generated before."),
    InputField(
      "stop_sequences", .text, nil,
      "Texts before which the answer ends, separated by commas, as in <end>,<stop>."),
    InputField("seed", .integer, nil, "Of the random numbers; without it, one is drawn."),
    InputField(
      "stream", .truth, false,
      "Whether the output is many pieces: of text, or chunks of a chat completion where messages "
        + "are given."),
  ]

  /// Whether a server offers the input.
  func isOffered(allowsTemplates: Bool) -> Bool { allowsTemplates || name != "chat_template" }
}
