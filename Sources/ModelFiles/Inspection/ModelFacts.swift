import JSON

/// What a configuration says about a model, whether or not Quarry can run it: each field nil where it
/// is not said.
public struct ModelFacts: Sendable {
  /// Name of the class, or of GGUF's architecture.
  public private(set) var architecture: String?
  public private(set) var contextLength: Int?
  public private(set) var layerCount: Int?
  public private(set) var hiddenSize: Int?
  /// Of the MLP that all tokens share.
  public private(set) var intermediateSize: Int?
  public private(set) var expertCount: Int?
  /// Experts that a token is sent to.
  public private(set) var usedExpertCount: Int?
  public private(set) var expertIntermediateSize: Int?
  public private(set) var headCount: Int?
  public private(set) var keyValueHeadCount: Int?
  public private(set) var headSize: Int?
  public private(set) var vocabularySize: Int?
  /// Elements of the KV cache for each position.
  public private(set) var cacheElementCount: Int?
  /// The configuration of a model that Quarry runs.
  public private(set) var configuration: ModelConfiguration?

  /// - Parameter json: config.json, if there is one.
  init(configuration json: [UInt8]?) {
    guard let json, let document = try? JSONValue(parsing: json) else { return }
    configuration = try? ModelConfiguration(json: json)
    func number(_ key: String) -> Int? { Self.positive(document[key]) }
    architecture =
      document["architectures"]?.array?.first?.string ?? document["model_type"]?.string
    contextLength = configuration?.contextLength ?? number("max_position_embeddings")
    layerCount = configuration?.layerCount ?? number("num_hidden_layers")
    hiddenSize = configuration?.hiddenSize ?? number("hidden_size")
    if let configuration {
      intermediateSize = configuration.intermediateSize > 0 ? configuration.intermediateSize : nil
      expertCount = configuration.experts?.count
      usedExpertCount = configuration.experts?.usedCount
      expertIntermediateSize = configuration.experts?.intermediateSize
    } else {
      intermediateSize = number("intermediate_size")
      expertCount = number("num_local_experts")
      usedExpertCount = expertCount == nil ? nil : number("num_experts_per_tok")
    }
    headCount = configuration?.headCount ?? number("num_attention_heads")
    keyValueHeadCount =
      configuration?.keyValueHeadCount ?? number("num_key_value_heads") ?? headCount
    headSize = configuration?.headSize ?? number("head_dim") ?? quotient(hiddenSize, headCount)
    vocabularySize = configuration?.vocabularySize ?? number("vocab_size")
    let cachedLayers = configuration?.layerKinds.count { $0 == .attention } ?? layerCount
    cacheElementCount = Self.product(cachedLayers, keyValueHeadCount, headSize, 2)
  }

  init(_ file: GGUFFile) {
    architecture = file.value("general.architecture")?.string
    guard let prefix = architecture else { return }
    func value(_ key: String) -> JSONValue? { file.value(prefix + "." + key) }
    func number(_ key: String) -> Int? { Self.positive(value(key)) }
    contextLength = number("context_length")
    layerCount = number("block_count")
    hiddenSize = number("embedding_length")
    expertCount = number("expert_count")
    usedExpertCount = number("expert_used_count")
    let size = number("feed_forward_length")
    if expertCount == nil {
      intermediateSize = size
    } else {
      // Without a size of the experts alone, the other one is theirs.
      expertIntermediateSize = number("expert_feed_forward_length") ?? size
      intermediateSize =
        number("expert_shared_feed_forward_length")
        ?? (size == expertIntermediateSize ? nil : size)
    }
    headCount = number("attention.head_count")
    headSize = number("attention.key_length") ?? quotient(hiddenSize, headCount)
    vocabularySize =
      number("vocab_size")
      ?? file.metadata.first { $0.key == "tokenizer.ggml.tokens" }?.value.count
    guard let keySize = headSize else { return }
    let valueSize = number("attention.value_length") ?? keySize
    let both = keySize.addingReportingOverflow(valueSize)
    guard !both.overflow else { return }
    // One number, or one for each layer: layers without attention have none.
    if let heads = value("attention.head_count_kv")?.array {
      var sum = 0
      for head in heads.compactMap(\.integer) where head > 0 {
        let (next, overflow) = sum.addingReportingOverflow(head)
        if overflow { return }
        sum = next
      }
      cacheElementCount = Self.product(sum, both.partialValue)
    } else {
      keyValueHeadCount = number("attention.head_count_kv") ?? headCount
      cacheElementCount = Self.product(layerCount, keyValueHeadCount, both.partialValue)
    }
  }

  private static func positive(_ value: JSONValue?) -> Int? {
    value?.integer.flatMap { $0 > 0 ? $0 : nil }
  }

  private func quotient(_ dividend: Int?, _ divisor: Int?) -> Int? {
    guard let dividend, let divisor, dividend % divisor == 0 else { return nil }
    return dividend / divisor
  }

  /// Nil where a factor is missing or an `Int` does not hold it.
  private static func product(_ factors: Int?...) -> Int? {
    var result = 1
    for factor in factors {
      guard let factor else { return nil }
      let (next, overflow) = result.multipliedReportingOverflow(by: factor)
      if overflow { return nil }
      result = next
    }
    return result
  }
}
