import Inference
import JSON

/// The tokens that a request took.
struct Usage {
  private var promptTokens = 0
  private var completionTokens = 0
  private var cachedTokens = 0

  /// - Parameter countsPrompt: false for further choices of one prompt.
  mutating func add(_ summary: GenerationSummary, countsPrompt: Bool) {
    completionTokens += summary.completionTokens
    if countsPrompt {
      promptTokens += summary.promptTokens
      cachedTokens += summary.cachedTokens
    }
  }

  var json: JSONValue {
    .object([
      "prompt_tokens": .integer(promptTokens), "completion_tokens": .integer(completionTokens),
      "total_tokens": .integer(promptTokens + completionTokens),
      "prompt_tokens_details": .object(["cached_tokens": .integer(cachedTokens)]),
    ])
  }
}
