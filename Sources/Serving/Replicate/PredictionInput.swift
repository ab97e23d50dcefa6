import Inference
import JSON

/// The inputs of a prediction, each of its kind; whether the model takes their values is seen when it
/// runs.
struct PredictionInput: Sendable {
  /// With defaults.
  private let values: JSONObject
  /// Names that are no inputs.
  let unknown: [String]
  let seed: UInt64

  /// - Throws: ``APIError`` for inputs of a wrong kind.
  init(_ given: JSONObject, allowsTemplates: Bool) throws(APIError) {
    var values = JSONObject()
    for field in InputField.all {
      values[field.name] = field.standard
      // Null counts as missing: clients send it for what they leave open.
      guard let value = given[field.name], !value.isNull else { continue }
      let name = "input.\(field.name)"
      guard field.isOffered(allowsTemplates: allowsTemplates) else {
        throw .unprocessable(
          "\(name) is refused: templates of requests run only on a server started with "
            + "--allow-request-templates", name)
      }
      guard let accepted = field.kind.accept(value) else {
        throw .unprocessable("\(name) must be \(field.kind.expected), not \(value.kind)", name)
      }
      values[field.name] = accepted
    }
    self.values = values
    let known = Set(InputField.all.map(\.name))
    unknown = given.members.map(\.key).filter { !known.contains($0) }
    // As large as every client's numbers are exact.
    seed =
      values["seed"]?.integer.map { UInt64(bitPattern: Int64($0)) } ?? .random(in: 0..<(1 << 53))
  }

  /// A text that is there and not empty.
  private func text(_ name: String) -> String? {
    values[name]?.string.flatMap { $0.isEmpty ? nil : $0 }
  }

  private func objects(_ name: String) -> [JSONValue]? {
    values[name]?.array.flatMap { $0.isEmpty ? nil : $0 }
  }

  var prompt: String? { text("prompt") }
  var systemPrompt: String? { text("system_prompt") }
  var messages: [JSONValue]? { objects("messages") }
  var streams: Bool { values["stream"]?.bool ?? false }

  var options: GenerationOptions {
    func number(_ name: String) -> Double { values[name]?.double ?? 0 }
    func integer(_ name: String) -> Int { values[name]?.integer ?? 0 }
    var options = GenerationOptions()
    options.minTokens = integer("min_tokens")
    options.maxTokens = integer("max_tokens")
    options.temperature = number("temperature")
    options.topP = number("top_p")
    options.topK = integer("top_k")
    options.presencePenalty = number("presence_penalty")
    options.frequencyPenalty = number("frequency_penalty")
    options.stop = (text("stop_sequences") ?? "").split(separator: ",").map(String.init)
    options.seed = seed
    return options
  }

  /// The fields of a conversation as a chat completion has them.
  func conversation(_ messages: [JSONValue]) -> RequestFields {
    RequestFields([
      "messages": .array(messages), "tools": objects("tools").map { .array($0) },
      "documents": objects("documents").map { .array($0.map(Self.texts)) },
      "chat_template": text("chat_template").map { .string($0) },
      "add_generation_prompt": values["add_generation_prompt"],
      "chat_template_kwargs": values["chat_template_kwargs"],
    ])
  }

  /// A document whose values are texts, as Python writes them: templates put them beside each other.
  private static func texts(_ document: JSONValue) -> JSONValue {
    .object(
      JSONObject(
        document.object!.members.map { name, value in
          let text =
            switch value {
            case .string(let text): text
            case .null: "None"
            case .bool(let value): value ? "True" : "False"
            default: value.serialized()
            }
          return (name, .string(text))
        }))
  }
}

extension APIError {
  /// A request whose form is right and whose content is not.
  static func unprocessable(_ message: String, _ parameter: String) -> APIError {
    APIError(
      status: 422, type: "invalid_request_error", code: "unprocessable", parameter: parameter,
      message: message)
  }
}
