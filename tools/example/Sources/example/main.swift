// Answers a question with a slab: example SLAB QUESTION
import QuarryKit

let arguments = CommandLine.arguments.dropFirst()
guard let slab = arguments.first, let question = arguments.dropFirst().first else {
  fatalError("usage: example SLAB QUESTION")
}
var options = GenerationOptions()
options.maxTokens = 64
let model = try LanguageModel(slab: slab)
for try await text in try model.reply(to: question, options: options) {
  print(text, terminator: "")
}
print()
