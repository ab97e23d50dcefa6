import Inference

/// A completion on its way to standard output.
enum Streaming {
  /// Prints the text as it comes, until the end or Ctrl-C, and ends it with a line break.
  ///
  /// - Parameter answer: receives the text too.
  static func run(
    _ generator: Generator, collecting answer: inout String
  ) throws -> GenerationSummary {
    var generator = generator
    while let event = try generator.next() {
      switch event {
      case .token: break
      case .text(let text):
        answer += text
        try Console.write(text)
      case .finished(let summary):
        if !answer.hasSuffix("\n") { try Console.write("\n") }
        return summary
      }
    }
    preconditionFailure("a generator ends with .finished")
  }

  static func run(_ generator: Generator) throws -> GenerationSummary {
    var answer = ""
    return try run(generator, collecting: &answer)
  }
}

extension GenerationSummary {
  /// What the completion took, for people.
  var line: String {
    let cached = cachedTokens > 0 ? ", \(cachedTokens) of them known already" : ""
    return "prompt \(promptTokens) tokens\(cached) at \(Format.decimal(prefillRate, 1))/s, "
      + "answer \(completionTokens) tokens at \(Format.decimal(decodeRate, 1))/s, "
      + "ended by \(finishReason.rawValue)"
  }
}
