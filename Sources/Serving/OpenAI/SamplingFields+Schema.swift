import JSON

extension SamplingFields {
  /// The fields that are read.
  enum Field {
    static let n = RequestField.integer("n", 1...choiceLimit)
    static let bestOf = RequestField.integer("best_of", 1...choiceLimit)
    static let stream = RequestField.bool("stream")
    static let streamOptions = RequestField.object(
      "stream_options",
      ["type": "object", "properties": .object(["include_usage": .object(["type": "boolean"])])])
    static let temperature = RequestField.number("temperature", 0...2)
    static let topP = RequestField.number("top_p", 0...1)
    static let topK = RequestField.integer("top_k", -1 ... .max)
    static let minP = RequestField.number("min_p", 0...1)
    static let presencePenalty = RequestField.number("presence_penalty", -2...2)
    static let frequencyPenalty = RequestField.number("frequency_penalty", -2...2)
    static let repetitionPenalty = RequestField.number("repetition_penalty", 0.01...100)
    static let logitBias = RequestField.object(
      "logit_bias",
      [
        "type": "object", "maxProperties": .integer(biasLimit),
        "propertyNames": .object(["pattern": "^[0-9]+$"]),
        "additionalProperties": .object(["type": "number", "minimum": -100, "maximum": 100]),
      ])
    static let minTokens = RequestField.integer("min_tokens", 0 ... .max)
    static let stop = RequestField.strings("stop", limit: 16)
    static let seed = RequestField.integer("seed")
    static let responseFormat = RequestField.object(
      "response_format",
      [
        "type": "object", "required": .array(["type"]),
        "properties": .object(["type": .object(["const": "text"])]),
      ])

    static let all: [any DescribedField] = [
      n, bestOf, stream, streamOptions, temperature, topP, topK, minP, presencePenalty,
      frequencyPenalty, repetitionPenalty, logitBias, minTokens, stop, seed, responseFormat,
    ]
  }
}
