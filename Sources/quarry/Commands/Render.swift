import ArgumentParser
import Inference
import JSON
import Tokenization

struct Render: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print the exact prompt that the chat template makes of a conversation.",
    discussion: """
      EXAMPLES
        echo '[{"role": "user", "content": "Hi"}]' | quarry render granite.slab --messages -
        quarry render granite.slab --messages chat.json --documents docs.json --date 2025-04-12
      """)

  @OptionGroup var source: AssetSource
  @Option(help: "JSON file with an array of messages; - for standard input.", completion: .file())
  var messages: String
  @OptionGroup var template: TemplateOptions

  func run() throws {
    let assets = try source.load()
    guard let chatTemplate = try template.override() ?? assets.chatTemplate?.get() else {
      throw InputError.noChatTemplate
    }
    try Console.write(
      try template.render(
        InputFiles.readJSON(messages), with: chatTemplate, specialTokens: assets.specialTokens))
  }
}
