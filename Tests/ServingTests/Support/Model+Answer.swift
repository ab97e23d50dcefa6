import Inference
import QuarryKit
import TestSupport
import Tokenization

extension Model {
  /// What it says to a prompt without a server, with the sampling that requests get by default.
  func answer(
    to prompt: String, _ change: (inout GenerationOptions) -> Void
  ) throws -> (text: String, summary: GenerationSummary) {
    var options = GenerationOptions()
    (options.temperature, options.topP, options.topK) = (1, 1, 0)
    change(&options)
    let session = try Session(model: self, contextLength: 2048)
    var generator = try Generator(
      session: session, prompt: try tokenizer!.encode(prompt), options: options)
    var answer = ""
    while let event = try generator.next() {
      switch event {
      case .token: break
      case .text(let text): answer += text
      case .finished(let summary): return (answer, summary)
      }
    }
    throw HTTPClient.Failure(message: "no summary")
  }
}
