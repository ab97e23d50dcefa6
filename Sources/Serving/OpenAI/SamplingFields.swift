import Inference
import JSON
import ModelFiles
import QuarryKit
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
  static let biasLimit = 4096

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
    choices = try fields.read(Field.n) ?? 1
    if let bestOf = try fields.read(Field.bestOf), bestOf != choices {
      throw .unsupported("best_of must be n: choices are not compared", "best_of")
    }
    streams = try fields.read(Field.stream) ?? false
    let streamOptions = try fields.read(Field.streamOptions)
    if streamOptions != nil, !streams {
      throw .invalid("stream_options is for streams", "stream_options")
    }
    includesUsage =
      try streamOptions.map { (object) throws(APIError) in
        try RequestFields(object, path: "stream_options.").read(.bool("include_usage")) ?? false
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
    options.temperature = try fields.read(Field.temperature) ?? 1
    options.topP = try fields.read(Field.topP) ?? 1
    if options.topP == 0 { (options.topP, options.topK) = (1, 1) } else { options.topK = 0 }
    options.topK = try fields.read(Field.topK) ?? options.topK
    options.minP = try fields.read(Field.minP) ?? 0
    options.presencePenalty = try fields.read(Field.presencePenalty) ?? 0
    options.frequencyPenalty = try fields.read(Field.frequencyPenalty) ?? 0
    options.repetitionPenalty = try fields.read(Field.repetitionPenalty) ?? 1
    options.logitBias = try bias(fields, model: model)
    options.maxTokens = maxTokens
    options.minTokens = try fields.read(.integer(Field.minTokens.name, 0...maxTokens)) ?? 0
    options.stop = try fields.read(Field.stop) ?? []
    options.seed =
      try fields.read(Field.seed).map { UInt64(bitPattern: Int64($0)) }
      ?? UInt64.random(in: 0 ... .max)
    options.logprobs = logprobs
    return options
  }

  private static func bias(
    _ fields: RequestFields, model: ServedModel
  ) throws(APIError) -> [TokenID: Float] {
    var bias: [TokenID: Float] = [:]
    let size = model.engine.model.configuration.vocabularySize
    let members = try fields.read(Field.logitBias)?.members ?? []
    if members.count > biasLimit {
      throw fields.wrong(Field.logitBias.name, "at most \(biasLimit) numbers")
    }
    for (key, value) in members {
      guard let token = TokenID(key), (0..<size).contains(Int(token)),
        let number = value.double, abs(number) <= 100
      else {
        throw fields.wrong(
          Field.logitBias.name, "numbers from -100 to 100 by ids of tokens below \(size)")
      }
      bias[token] = Float(number)
    }
    return bias
  }

  private static func checkFormat(_ fields: RequestFields) throws(APIError) {
    guard let format = try fields.read(Field.responseFormat) else { return }
    guard format["type"]?.string == "text" else {
      throw .unsupported(
        "response_format may be {\"type\": \"text\"}: answers cannot be held to a format",
        "response_format")
    }
  }
}
