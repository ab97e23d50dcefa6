import Inference
import JSON
import ModelFiles
import Tokenization

/// What requests of `/v1/chat/completions` and `/v1/completions` have in common.
struct SamplingFields {
  /// Choices for each prompt.
  let choices: Int
  let options: GenerationOptions
  let streams: Bool
  let includesUsage: Bool
  /// Choices that a request may have.
  static let choiceLimit = 128
  /// Tokens whose logits a request may change.
  private static let biasLimit = 4096

  /// Reads all fields but `logprobs`, which the two spell differently.
  ///
  /// - Parameters:
  ///   - maxTokens: where the request does not say.
  /// - Throws: ``APIError``.
  init(
    _ fields: RequestFields, model: ServedModel, maxTokens: Int, logprobs: Int?
  ) throws(APIError) {
    try fields.refuse([
      "json_schema", "grammar", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
      "structured_outputs", "audio", "web_search_options", "prompt_logprobs",
    ])
    try Self.checkFormat(fields)
    choices = try fields.integer("n", 1...Self.choiceLimit) ?? 1
    if let bestOf = try fields.integer("best_of", 1...Self.choiceLimit), bestOf != choices {
      throw .unsupported("best_of must be n: choices are not compared", "best_of")
    }
    streams = try fields.bool("stream") ?? false
    let streamOptions = try fields.object("stream_options")
    if streamOptions != nil, !streams {
      throw .invalid("stream_options is for streams", "stream_options")
    }
    includesUsage =
      try streamOptions.map { (object) throws(APIError) in
        try RequestFields(object, path: "stream_options.").bool("include_usage") ?? false
      } ?? false
    options = try Self.options(fields, model: model, maxTokens: maxTokens, logprobs: logprobs)
  }

  /// One choice, as `options` have it.
  init(_ options: GenerationOptions, streams: Bool) {
    choices = 1
    self.options = options
    self.streams = streams
    includesUsage = false
  }

  private static func options(
    _ fields: RequestFields, model: ServedModel, maxTokens: Int, logprobs: Int?
  ) throws(APIError) -> GenerationOptions {
    var options = GenerationOptions()
    options.temperature = try fields.number("temperature", 0...2) ?? 1
    options.topP = try fields.number("top_p", 0...1) ?? 1
    if options.topP == 0 { (options.topP, options.topK) = (1, 1) } else { options.topK = 0 }
    options.topK = try fields.integer("top_k", -1 ... .max) ?? options.topK
    options.minP = try fields.number("min_p", 0...1) ?? 0
    options.presencePenalty = try fields.number("presence_penalty", -2...2) ?? 0
    options.frequencyPenalty = try fields.number("frequency_penalty", -2...2) ?? 0
    options.repetitionPenalty = try fields.number("repetition_penalty", 0.01...100) ?? 1
    options.logitBias = try bias(fields, model: model)
    options.maxTokens = maxTokens
    options.minTokens = try fields.integer("min_tokens", 0...maxTokens) ?? 0
    options.stop = try fields.strings("stop", limit: 16) ?? []
    options.seed =
      try fields.integer("seed").map { UInt64(bitPattern: Int64($0)) }
      ?? UInt64.random(in: 0 ... .max)
    options.logprobs = logprobs
    return options
  }

  private static func bias(
    _ fields: RequestFields, model: ServedModel
  ) throws(APIError) -> [TokenID: Float] {
    var bias: [TokenID: Float] = [:]
    let size = model.engine.model.configuration.vocabularySize
    let members = try fields.object("logit_bias")?.members ?? []
    if members.count > biasLimit {
      throw fields.wrong("logit_bias", "at most \(biasLimit) numbers")
    }
    for (key, value) in members {
      guard let token = TokenID(key), (0..<size).contains(Int(token)),
        let number = value.double, abs(number) <= 100
      else {
        throw fields.wrong("logit_bias", "numbers from -100 to 100 by ids of tokens below \(size)")
      }
      bias[token] = Float(number)
    }
    return bias
  }

  private static func checkFormat(_ fields: RequestFields) throws(APIError) {
    guard let format = try fields.object("response_format") else { return }
    guard format["type"]?.string == "text" else {
      throw .unsupported(
        "response_format may be {\"type\": \"text\"}: answers cannot be held to a format",
        "response_format")
    }
  }
}
