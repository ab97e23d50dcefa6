import Conversion
import Foundation
import Inference
import ModelFiles
import TensorCore
import TestModels
import TestSupport
import Testing
import Tokenization

@testable import QuarryKit

/// An engine over a model with Mamba2 layers, whose sequences have states to share.
@Suite struct RecurrentEngineTests {
  private static let model = Result {
    try Place.withTemporaryDirectory { folder in
      let directory = folder.appending(path: "checkpoint")
      try FileManager.default.copyItem(
        at: Place.goldens.appending(path: "checkpoints/hybrid-mamba"), to: directory)
      try Data(tokenizer.utf8).write(to: directory.appending(path: "tokenizer.json"))
      try Data("{% for m in messages %}<|start|>{{ m.content }}{% endfor %}".utf8).write(
        to: directory.appending(path: "chat_template.jinja"))
      let path = folder.appending(path: "hybrid.slab").path
      let pool = WorkerPool(threadCount: 2)
      _ = try Converter(
        checkpoint: Checkpoint(directory: directory.path), recipe: .q8, calibration: .none,
        profile: .run, pool: pool
      ).run(to: path)
      return try Model(slab: Slab(path: path), pool: pool, kernels: .selected())
    }
  }
  /// Knows the token that messages begin with, and no other.
  private static let tokenizer = """
    {"version": "1.0", "truncation": null, "padding": null, "normalizer": null,
     "added_tokens": [{"id": 1, "content": "<|start|>", "single_word": false, "lstrip": false,
       "rstrip": false, "normalized": false, "special": true}],
     "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
     "post_processor": null,
     "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
     "model": {"type": "BPE", "dropout": null, "unk_token": null, "fuse_unk": false,
       "continuing_subword_prefix": null, "end_of_word_suffix": null, "byte_fallback": false,
       "vocab": {"a": 0, "<|start|>": 1}, "merges": []}}
    """
  private static let context = 128

  private func engine(slots: Int = 4, tiles: Int? = nil) throws -> Engine {
    try Engine(
      model: Self.model.get(),
      configuration: EngineConfiguration(
        slots: slots, contextLength: Self.context, maxQueue: 32, cacheTiles: tiles))
  }

  private func request(_ prompt: [TokenID], _ count: Int, seed: UInt64 = 0) -> EngineRequest {
    var options = GenerationOptions()
    (options.maxTokens, options.seed) = (count, seed)
    options.logitBias = [0: -100]  // ends nothing
    options.logprobs = 150  // of all tokens, so that choices are equal where logits are
    return EngineRequest(prompt: prompt, options: options)
  }

  private func tokens(_ count: Int, seed: UInt64 = 1) -> [TokenID] {
    Models.tokens(count, seed: seed).map { $0 % 149 + 2 }
  }

  private func run(
    _ engine: Engine, _ requests: [EngineRequest]
  ) async throws -> [(choices: [Completion.Choice], cached: Int)] {
    try await withThrowingTaskGroup(of: (Int, [Completion.Choice], Int).self) { group in
      for (index, events) in try engine.submit(requests).enumerated() {
        group.addTask {
          var (choices, cached): ([Completion.Choice], Int) = ([], 0)
          for try await event in events {
            switch event {
            case .chosen(let choice): choices.append(choice)
            case .finished(let summary): cached = summary.cachedTokens
            default: break
            }
          }
          return (index, choices, cached)
        }
      }
      var results = [(choices: [Completion.Choice], cached: Int)](
        repeating: ([], 0), count: requests.count)
      for try await (index, choices, cached) in group { results[index] = (choices, cached) }
      return results
    }
  }

  private func alone(_ request: EngineRequest) throws -> [Completion.Choice] {
    let model = try Self.model.get()
    let session = try Session(model: model, contextLength: Self.context)
    var completion = try Completion(
      model: model, prompt: request.prompt, options: request.options,
      contextLength: Self.context)
    var choices: [Completion.Choice] = []
    while completion.finishReason == nil {
      try session.append(completion.tokens[session.position...], logits: .last) { _, logits in
        choices.append(try completion.choose(from: logits))
      }
    }
    return choices
  }

  @Test func everySequenceIsWhatItIsAlone() async throws {
    let engine = try engine()
    defer { engine.stop() }
    let requests = (0..<10).map {
      request(tokens(3 + 9 * $0, seed: UInt64($0)), 5 + $0, seed: UInt64($0))
    }
    for (result, request) in zip(try await run(engine, requests), requests) {
      #expect(result.choices == (try alone(request)))
    }
    #expect(engine.statistics.sequenceSteps > engine.statistics.steps, "they ran together")
  }

  /// Tokens that each prompt, one after the other, found in the cache; what follows them is checked
  /// against a cold run.
  private func answer(_ prompts: [[TokenID]], _ engine: Engine) async throws -> [Int] {
    var cached: [Int] = []
    for prompt in prompts {
      let request = request(prompt, 4)
      let result = try await run(engine, [request])[0]
      #expect(result.choices == (try alone(request)))
      cached.append(result.cached)
    }
    return cached
  }

  @Test func prefixesAreReusedFromKeptStates() async throws {
    let engine = try engine()
    defer { engine.stop() }
    let base = tokens(60)
    // The same again; longer; diverging midway, where no state is yet; shorter.
    let prompts = [
      base, base, base + tokens(20, seed: 2), Array(base[..<30]) + tokens(20, seed: 3),
      Array(base[..<40]),
    ]
    let cached = try await answer(prompts, engine)
    #expect(cached == [0, 59, 59, 0, 30])
    #expect(engine.statistics.prefilledTokens == 60 + 1 + 21 + 50 + 10)
    #expect(engine.statistics.reusedTokens == 59 + 59 + 30)
  }

  /// Only what follows the message that differs is computed.
  @Test func chatsStartWhereTheirMessagesDiffer() async throws {
    let engine = try engine()
    defer { engine.stop() }
    func message(_ count: Int, _ seed: UInt64) -> [TokenID] { [1] + tokens(count, seed: seed) }
    let system = message(40, 1)
    let turn = system + message(16, 2) + message(20, 3)
    let prompts = [
      // Other questions to one system message.
      system + message(30, 4), system + message(30, 5),
      // A question later in a chat, asked otherwise.
      turn + message(24, 6) + message(2, 0), turn + message(24, 7) + message(2, 0),
    ]
    let cached = try await answer(prompts, engine)
    #expect(cached == [0, system.count, system.count, turn.count])
    #expect(
      engine.statistics.prefilledTokens
        == 72 + 31 + (prompts[2].count - system.count) + (prompts[3].count - turn.count))
  }

  /// Those that come together wait for their common beginning, and no longer.
  @Test func chatsThatComeTogetherShareTheirInstructions() async throws {
    let engine = try engine()
    defer { engine.stop() }
    let system = [1] + tokens(40)
    let requests = (0..<4).map { request(system + [1] + tokens(50, seed: UInt64($0 + 2)), 8) }
    let results = try await run(engine, requests)
    for (result, request) in zip(results, requests) {
      #expect(result.choices == (try alone(request)))
    }
    #expect(results.map(\.cached) == [0, 41, 41, 41])
  }

  /// Several answers to one prompt share its state but for the last token.
  @Test func answersToOnePromptShareIt() async throws {
    let engine = try engine()
    defer { engine.stop() }
    let prompt = tokens(50)
    let requests = (0..<4).map { request(prompt, 12, seed: UInt64($0)) }
    let results = try await run(engine, requests)
    for (result, request) in zip(results, requests) {
      #expect(result.choices == (try alone(request)))
    }
    #expect(results.map(\.cached) == [0, 49, 49, 49])
  }

  /// With memory for little more than one sequence, kept states go and sequences wait.
  @Test func littleMemoryChangesNothing() async throws {
    let model = try Self.model.get()
    let perSlot = CacheBudget.tileCount(Self.context, of: model, .f16)
    let engine = try engine(slots: 4, tiles: perSlot + 2)
    defer { engine.stop() }
    let requests = (0..<6).map {
      request(tokens(20 + 9 * $0, seed: UInt64($0 / 2)), 20, seed: UInt64($0))
    }
    for (result, request) in zip(try await run(engine, requests), requests) {
      #expect(result.choices == (try alone(request)))
    }
    #expect(engine.statistics.cacheTiles <= perSlot + 2)
  }

  @Test func positionsOfStates() throws {
    var prompt = [TokenID](repeating: 5, count: 5000)
    for start in [0, 400, 4500, 4990] { prompt[start] = 1 }
    func positions(_ count: Int, from start: Int, fork: Int) -> [Int] {
      StatePositions.of(prompt[..<count], from: start, fork: fork, messageStart: 1)
    }
    #expect(positions(5000, from: 0, fork: 0) == [400, 1024, 2048, 3072, 4500, 4999])
    #expect(positions(5000, from: 400, fork: 403) == [1024, 2048, 3072, 4500, 4999])
    #expect(positions(5000, from: 4500, fork: 4600) == [4600, 4999])
    #expect(positions(390, from: 0, fork: 389) == [389])
    #expect(positions(5000, from: 4999, fork: 4999) == [])
    #expect(positions(1, from: 0, fork: 0) == [])
    // Few, whatever the length.
    let long = [TokenID](repeating: 5, count: 131072)
    for start: TokenID? in [nil, 5] {
      #expect(
        (6...9).contains(
          StatePositions.of(long[...], from: 0, fork: 0, messageStart: start).count))
    }
  }
}
