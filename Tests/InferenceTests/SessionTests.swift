import JSON
import ModelFiles
import TensorCore
import TestSupport
import Testing

@testable import Inference

/// Random ids below 307.
func randomTokens(_ count: Int, seed: UInt64 = 5) -> [Int32] {
  var random = SplitMix64(seed: seed)
  return (0..<count).map { _ in Int32.random(in: 0..<307, using: &random) }
}

extension Session {
  /// Logits after every one of `tokens`.
  func allLogits(appending tokens: some Collection<Int32>) throws -> [[Float]] {
    var rows: [[Float]] = []
    try append(tokens, logits: .all) { index, logits in
      #expect(index == rows.count)
      rows.append(Array(logits))
    }
    return rows
  }
}

@Suite struct InvarianceTests {
  static let variations: [(name: String, settings: [String: JSONValue], [BlockEncoding])] = [
    ("f32", [:], [.f32]),
    ("quantized", [:], [.q8b16, .q4b16, .q4b32, .q8b32]),
    (
      "untied with biases",
      ["tie_word_embeddings": false, "attention_bias": true, "mlp_bias": true], [.q4b16]
    ),
    (
      "fused",
      [
        "model_type": "granitemoehybrid", "shared_intermediate_size": 56, "num_local_experts": 0,
        "layer_types": .array(["attention", "attention"]),
        "position_embedding_type": "nope",
      ], [.q4b32, .f32]
    ),
    (
      "experts", ["model_type": "granitemoe", "num_local_experts": 5, "num_experts_per_tok": 2],
      [.q8b16, .q4b32, .f32, .q4b16]
    ),
    (
      "experts beside an MLP",
      [
        "model_type": "granitemoeshared", "num_local_experts": 6, "num_experts_per_tok": 3,
        "shared_intermediate_size": 24,
      ], [.q4b16, .q8b32, .f32]
    ),
  ]

  /// One after another, in random cuts, with small chunks, with other threads: the same bits.
  @Test(arguments: variations.indices, CacheType.allCases)
  func cutsAndThreadsChangeNoBit(variation: Int, cacheType: CacheType) throws {
    for precision in ActivationPrecision.allCases {
      try cutsAndThreadsChangeNoBit(variation, precision, cacheType)
    }
  }

  private func cutsAndThreadsChangeNoBit(
    _ variation: Int, _ precision: ActivationPrecision, _ cacheType: CacheType
  ) throws {
    let (_, settings, encodings) = Self.variations[variation]
    let tiny = try TinyModel(settings, encodings: encodings)
    // The reference is slow; what instruction sets compute is compared elsewhere.
    let kernels = Kernels(cacheType == .f32 ? .scalar : InstructionSet.supported.last!)
    // More than a tile of positions.
    let tokens = randomTokens(300)
    let whole = try Session(
      model: tiny.model(threads: 1, kernels: kernels), activations: precision,
      cacheType: cacheType
    ).allLogits(appending: tokens)
    #expect(whole.count == 300)
    #expect(Set(whole.map { $0[3] }).count > 250)

    let single = try Session(
      model: tiny.model(threads: 4, kernels: kernels), activations: precision,
      cacheType: cacheType)
    for (index, token) in tokens.enumerated() {
      #expect(try single.logits(appending: [token]) == whole[index], "token \(index) by itself")
    }

    var random = SplitMix64(seed: UInt64(variation))
    for threads in [2, 3] {
      let session = try Session(
        model: tiny.model(threads: threads, kernels: kernels), activations: precision,
        cacheType: cacheType, chunkLength: Int.random(in: 1...40, using: &random))
      var rest = tokens[...]
      while !rest.isEmpty {
        let cut = rest.prefix(Int.random(in: 1...70, using: &random))
        let rows = try session.allLogits(appending: cut)
        #expect(rows == Array(whole[cut.indices]), "tokens \(cut.indices)")
        rest = rest.dropFirst(cut.count)
      }
    }
  }

  @Test(arguments: InstructionSet.supported, variations.indices)
  func instructionSetsChangeNoBit(instructionSet: InstructionSet, variation: Int) throws {
    let (_, settings, encodings) = Self.variations[variation]
    let tiny = try TinyModel(settings, encodings: encodings)
    let tokens = randomTokens(40)
    for precision in ActivationPrecision.allCases {
      for cacheType in CacheType.allCases {
        let rows = try [Kernels(.scalar), Kernels(instructionSet)].map { kernels in
          try Session(
            model: tiny.model(kernels: kernels), activations: precision, cacheType: cacheType
          ).allLogits(appending: tokens)
        }
        #expect(rows[0] == rows[1])
      }
    }
  }

  @Test func truncatingAndGoingOnIsLossless() throws {
    let model = try TinyModel(encodings: [.q4b16]).model()
    let tokens = randomTokens(280)
    let session = try Session(model: model)
    try session.append(tokens)
    session.truncate(to: 100)
    #expect(session.position == 100)
    try session.append(randomTokens(30, seed: 9))
    session.truncate(to: 100)
    let after = try session.logits(appending: tokens[100...])
    #expect(after == (try Session(model: model).logits(appending: tokens)))
    #expect(session.tokens == tokens)
  }
}

@Suite struct SessionTests {
  @Test func contextOverflowNamesTheLimit() throws {
    let model = try TinyModel().model()
    let session = try Session(model: model, contextLength: 10)
    try session.append(randomTokens(8))
    let error = #expect(throws: InferenceError.contextExceeded(needed: 11, limit: 10)) {
      try session.append(randomTokens(3))
    }
    #expect("\(error!)" == "11 tokens do not fit into the context of 10")
    // Nothing was appended, and what fits still does.
    #expect(session.position == 8)
    try session.append(randomTokens(2))
  }

  @Test(arguments: [0, -1, 601]) func impossibleContextLengths(length: Int) throws {
    let model = try TinyModel().model()
    #expect(throws: InferenceError.contextLength(requested: length, limit: 600)) {
      try Session(model: model, contextLength: length)
    }
  }

  @Test(arguments: [-1, 307, Int32.max]) func tokensOutsideTheVocabulary(token: Int32) throws {
    let session = try Session(model: TinyModel().model())
    #expect(
      throws: InferenceError.tokenOutOfRange(token: Int(token), index: 1, vocabularySize: 307)
    ) { try session.append([1, token]) }
    #expect(session.position == 0)
  }

  @Test func logitsAreThoseOfTheVocabulary() throws {
    // 307 is no multiple of 16: padded rows are no logits.
    let session = try Session(model: TinyModel(encodings: [.q4b16]).model())
    #expect(try session.logits(appending: [1, 2]).count == 307)
  }

  @Test(arguments: zip([CacheType.f32, .f16, .q8], [128, 64, 36]))
  func cacheGrowsWithUseUpToThePrediction(cacheType: CacheType, headByteCount: Int) throws {
    let model = try TinyModel().model(kernels: Kernels(InstructionSet.supported.last!))
    let session = try Session(model: model, cacheType: cacheType)
    #expect(session.cacheByteCount == 0)
    try session.append([1])
    // 2 layers, 2 KV heads of 20, padded to 32, 256 positions, keys and values.
    let tile = 2 * 2 * headByteCount * 256 * 2
    #expect(session.cacheByteCount == tile)
    try session.append(randomTokens(256))
    #expect(session.cacheByteCount == 2 * tile)
    try session.append(randomTokens(343))
    let prediction = MemoryPrediction(
      weightByteCount: 7, configuration: model.configuration, cacheType: cacheType)
    #expect(session.cacheByteCount == 3 * tile)
    #expect(prediction.cacheByteCount == 3 * tile)
    #expect(prediction.total > 3 * tile + 7)
  }

  @Test func cancellationComesBetweenChunks() throws {
    let session = try Session(model: TinyModel().model(), chunkLength: 4)
    var asked = 0
    session.isCancelled = {
      asked += 1
      return asked == 3
    }
    let tokens = randomTokens(20)
    #expect(throws: CancellationError.self) { try session.append(tokens) }
    #expect(session.tokens == Array(tokens[..<8]))
    let rest = try session.logits(appending: tokens[8...])
    #expect(rest == (try Session(model: TinyModel().model()).logits(appending: tokens)))
  }

  @Test(arguments: [Float.nan, .infinity, 3e38], ActivationPrecision.allCases)
  func damagedWeightsAreATypedError(value: Float, precision: ActivationPrecision) throws {
    for name in ["input_layernorm", "post_attention_layernorm"] {
      var tiny = try TinyModel(encodings: [.q8b16])
      tiny.vectors["model.layers.1.\(name).weight"]![3] = value
      let model = try tiny.model()
      #expect(throws: InferenceError.self) {
        try Session(model: model, activations: precision).logits(appending: [1, 2, 3])
      }
    }
  }

  @Test(arguments: [
    "model.embed_tokens", "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj",
    "model.layers.0.self_attn.v_proj", "model.layers.0.self_attn.o_proj",
    "model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj", "model.layers.1.mlp.down_proj",
  ])
  func weightsThatAreNotNumbers(name: String) throws {
    var tiny = try TinyModel()
    let matrix = tiny.matrices[name + ".weight"]!
    tiny.matrices[name + ".weight"] = .packed(matrix.geometry) { _, _ in .nan }
    let model = try tiny.model()
    #expect(throws: InferenceError.self) {
      try Session(model: model).logits(appending: [1, 2, 3])
    }
  }

  /// Whatever bytes a damaged slab holds: logits, or a typed error.
  @Test(arguments: InstructionSet.supported, 0..<12)
  func anyBytesInWeightsAreSafe(instructionSet: InstructionSet, seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    var tiny = try TinyModel(encodings: [.q4b16, .q8b32])
    // One matrix of each kind is damaged in turn, then several at once.
    let names = tiny.matrices.keys.sorted()
    for name in seed < 8 ? [names[Int(seed)]] : names.filter({ _ in Bool.random(using: &random) }) {
      let encoding = BlockEncoding.allCases.randomElement(using: &random)!
      tiny.matrices[name] = .garbage(
        tiny.matrices[name]!.geometry, encoding: encoding, using: &random)
    }
    let model = try tiny.model(kernels: Kernels(instructionSet))
    for precision in ActivationPrecision.allCases {
      do {
        let session = try Session(
          model: model, activations: precision,
          cacheType: CacheType.allCases.randomElement(using: &random)!)
        let logits = try session.logits(appending: randomTokens(20))
        #expect(logits.allSatisfy { $0.isFinite })
      } catch let error as InferenceError {
        switch error {
        case .nonFiniteActivation, .nonFiniteLogits, .cacheRange: break
        default: Issue.record(error)
        }
      }
    }
  }

  @Test func nonFiniteActivationSaysWhere() throws {
    var tiny = try TinyModel()
    // Only token 9 has a damaged embedding.
    let embedding = tiny.matrices["model.embed_tokens.weight"]!
    tiny.matrices["model.embed_tokens.weight"] = .packed(embedding.geometry) { row, column in
      row == 9 ? .infinity : Reference.dequantize(embedding, row: row, column: column)
    }
    tiny.configuration.tiedEmbeddings = false
    tiny.shapes["lm_head.weight"] = [307, 40]
    tiny.matrices["lm_head.weight"] = embedding
    let session = try Session(model: tiny.model())
    try session.append([1, 2, 3])
    #expect(throws: InferenceError.nonFiniteActivation(position: 5, layer: 0)) {
      try session.append([4, 5, 9])
    }
    #expect(session.position == 3)
  }
}

@Suite struct ModelTests {
  @Test func missingAndMisshapenTensors() throws {
    var tiny = try TinyModel()
    tiny.shapes["model.layers.1.self_attn.k_proj.weight"] = nil
    let missing = InferenceError.missingTensor(
      name: "model.layers.1.self_attn.k_proj.weight", expected: [40, 40], model: "tiny")
    #expect(throws: missing) { try tiny.model() }
    tiny.shapes["model.layers.1.self_attn.k_proj.weight"] = [40, 41]
    let wrong = InferenceError.wrongShape(
      tensor: "model.layers.1.self_attn.k_proj.weight", expected: [40, 40], found: [40, 41],
      model: "tiny")
    #expect(throws: wrong) { try tiny.model() }
  }

  @Test func progressCountsTensors() throws {
    let tiny = try TinyModel()
    var reports: [[Int]] = []
    _ = try Model(
      weights: tiny, assets: tiny.assets, pool: WorkerPool(threadCount: 1),
      kernels: Kernels(.scalar)
    ) { reports.append([$0, $1]) }
    let count = tiny.configuration.expectedTensors.count
    #expect(reports == (1...count).map { [$0, count] })
  }

  @Test func stopTokensAreAUnion() throws {
    let config = #"""
      {"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
       "num_attention_heads": 1, "vocab_size": 9, "max_position_embeddings": 9, "eos_token_id": 2}
      """#
    func stops(_ generation: String?) throws -> Set<Int32> {
      let files = ["config.json": config, "generation_config.json": generation]
      return try ModelAssets(path: "") { files[$0]?.map { Array($0.utf8) } }.stopTokens
    }
    #expect(try stops(nil) == [2])
    #expect(try stops(#"{"eos_token_id": 3}"#) == [2, 3])
    #expect(try stops(#"{"eos_token_id": [2, 5, 7]}"#) == [2, 5, 7])
    #expect(throws: InferenceError.missingAsset(name: "config.json", model: "a.slab")) {
      try ModelAssets(path: "a.slab") { _ in nil }
    }
    let names = [
      "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json",
    ]
    for name in names {
      var files = ["config.json": Array(config.utf8)]
      files[name] = Array("{".utf8)
      let error = #expect(throws: InferenceError.self) {
        try ModelAssets(path: "a.slab") { files[$0] }
      }
      #expect(error?.description.hasPrefix("\(name) in a.slab: ") == true)
    }
  }

  @Test func predictionsOfClaimedSizesDoNotOverflow() throws {
    var configuration = try TinyModel().configuration
    configuration.layerKinds = Array(repeating: .attention, count: 4096)
    configuration.keyValueHeadCount = 1 << 14
    configuration.headCount = 1 << 14
    configuration.headSize = 1 << 22
    configuration.contextLength = 1 << 26
    #expect(MemoryPrediction(weightByteCount: 1, configuration: configuration).total == .max)
  }

  @Test func availableMemory() {
    let text = "MemTotal:       24590372 kB\nMemFree: 1 kB\nMemAvailable:   20000000 kB\n"
    #expect(SystemMemory.byteCount("MemAvailable", in: text) == 20_480_000_000)
    #expect(SystemMemory.byteCount("MemAvailable", in: "MemFree: 1 kB\n") == nil)
    #expect(SystemMemory.availableByteCount.map { $0 > 0 } ?? false)
  }
}
