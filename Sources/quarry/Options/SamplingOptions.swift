import ArgumentParser
import Inference
import Tokenization

/// How tokens are chosen; the defaults are those of the published service.
struct SamplingOptions: ParsableArguments {
  @Option(parsing: .unconditional, help: "Randomness; 0 always takes the likeliest token.")
  var temperature = 0.6
  @Option(parsing: .unconditional, help: "Sample from the K likeliest tokens; 0 from all.")
  var topK = 50
  @Option(
    parsing: .unconditional,
    help: "Sample from the likeliest tokens that together have this probability.")
  var topP = 0.9
  @Option(
    parsing: .unconditional, help: "Drop tokens less likely than this share of the likeliest.")
  var minP = 0.0
  @Option(
    parsing: .unconditional,
    help: "Subtracted from the logit of every token that the answer already holds.")
  var presencePenalty = 0.0
  @Option(
    parsing: .unconditional,
    help: "Subtracted from a token's logit for every time the answer holds it.")
  var frequencyPenalty = 0.0
  @Option(
    parsing: .unconditional,
    help: "Divides the logits of tokens seen in prompt or answer; 1 is off.")
  var repetitionPenalty = 1.0
  @Option(
    parsing: .unconditionalSingleValue,
    help: ArgumentHelp(
      "Add a value to the logit of a token; repeatable.", valueName: "id=value"))
  var logitBias: [LogitBias] = []
  @Option(parsing: .unconditional, help: "Tokens to generate at most.")
  var maxTokens = 512
  @Option(parsing: .unconditional, help: "Tokens to generate before the answer may end.")
  var minTokens = 0
  @Option(
    parsing: .unconditional,
    help: "Seed of the random choices; without it a random one is drawn and printed.")
  var seed: UInt64?
  @Option(parsing: .unconditionalSingleValue, help: "End the answer before this text; repeatable.")
  var stop: [String] = []

  /// Says what is out of range before a model is loaded for it.
  func validate() throws {
    do {
      try requested.validate(vocabularySize: .max)
    } catch {
      let option = "--" + error.name.replacing("_", with: "-")
      throw ValidationError("\(option) is \(error.value); it must be \(error.expected).")
    }
  }

  struct LogitBias: ExpressibleByArgument {
    let token: TokenID
    let value: Float

    init?(argument: String) {
      let parts = argument.split(separator: "=")
      guard parts.count == 2, let token = TokenID(parts[0]), let value = Float(parts[1]) else {
        return nil
      }
      self.token = token
      self.value = value
    }

    static let defaultCompletionKind = CompletionKind.default
  }
}

extension SamplingOptions {
  /// The options as the generator takes them; draws a seed, and says which, where none is given.
  func generationOptions() -> GenerationOptions {
    var options = requested
    if seed == nil, temperature > 0 {
      options.seed = UInt64.random(in: 0..<1 << 32)  // short enough to be typed again
      Console.note("seed \(options.seed)")
    }
    return options
  }

  private var requested: GenerationOptions {
    var options = GenerationOptions()
    options.temperature = temperature
    options.topK = topK
    options.topP = topP
    options.minP = minP
    options.presencePenalty = presencePenalty
    options.frequencyPenalty = frequencyPenalty
    options.repetitionPenalty = repetitionPenalty
    for bias in logitBias { options.logitBias[bias.token] = bias.value }
    options.maxTokens = maxTokens
    options.minTokens = minTokens
    options.stop = stop
    options.seed = seed ?? 0
    return options
  }
}
