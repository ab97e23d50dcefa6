import ArgumentParser
import Foundation
import Inference
import JSON
import Tokenization

/// Everything that a chat template is given besides the conversation.
struct TemplateOptions: ParsableArguments {
  @Option(help: "JSON file with the documents of the conversation.", completion: .file())
  var documents: String?
  @Option(help: "JSON file with the tools the model may call.", completion: .file())
  var tools: String?
  @Option(help: "Further template variables as a JSON object, e.g. '{\"thinking\": true}'.")
  var kwargs: String?
  @Option(help: "The date the template sees, YYYY-MM-DD (default: today).")
  var date: TemplateDate?
  @Flag(help: "Do not open the assistant's turn.")
  var noGenerationPrompt = false
  @Option(help: "File with a chat template to use instead of the model's.", completion: .file())
  var chatTemplate: String?

  /// The template that the command line names.
  func override() throws -> ChatTemplate? {
    try chatTemplate.map { try ChatTemplate(InputFiles.readText($0)) }
  }

  /// The prompt that `chatTemplate` makes of a conversation.
  func render(
    _ messages: JSONValue, with chatTemplate: ChatTemplate, specialTokens: [String: String]
  ) throws -> String {
    var variables = JSONObject()
    if let kwargs {
      guard let object = try? JSONValue(parsing: kwargs).object else {
        throw InputError("--kwargs must be a JSON object")
      }
      variables = object
    }
    let input = ChatInput(
      messages: messages, tools: try tools.map(InputFiles.readJSON),
      documents: try documents.map(InputFiles.readJSON),
      addGenerationPrompt: !noGenerationPrompt, variables: variables, specialTokens: specialTokens)
    return try chatTemplate.render(input, date: date ?? .today())
  }
}

/// Turns of a conversation as templates take them.
func conversation(system: String?, _ turns: [(role: String, content: String)]) -> JSONValue {
  let all = (system.map { [("system", $0)] } ?? []) + turns
  return .array(all.map { .object(["role": .string($0.0), "content": .string($0.1)]) })
}
