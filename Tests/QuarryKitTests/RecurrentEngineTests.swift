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
      let checkpoint = try Checkpoint(
        directory: Place.goldens.appending(path: "checkpoints/hybrid-mamba").path)
      let path = folder.appending(path: "hybrid.slab").path
      let pool = WorkerPool(threadCount: 2)
      _ = try Converter(
        checkpoint: checkpoint, recipe: .q8, calibration: .none, profile: .run, pool: pool
      ).run(to: path)
      return try Model(slab: Slab(path: path), pool: pool, kernels: .selected())
    }
  }
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
    return EngineRequest(prompt: prompt, options: options)
  }

  private func tokens(_ count: Int, seed: UInt64 = 1) -> [TokenID] {
    Models.tokens(count, seed: seed).map { $0 % 150 + 1 }
  }

  private func run(
    _ engine: Engine, _ requests: [EngineRequest]
  ) async throws -> [(tokens: [TokenID], cached: Int)] {
    try await withThrowingTaskGroup(of: (Int, [TokenID], Int).self) { group in
      for (index, events) in try engine.submit(requests).enumerated() {
        group.addTask {
          var (tokens, cached): ([TokenID], Int) = ([], 0)
          for try await event in events {
            switch event {
            case .chosen(let choice): tokens.append(choice.token)
            case .finished(let summary): cached = summary.cachedTokens
            default: break
            }
          }
          return (index, tokens, cached)
        }
      }
      var results = [(tokens: [TokenID], cached: Int)](repeating: ([], 0), count: requests.count)
      for try await (index, tokens, cached) in group { results[index] = (tokens, cached) }
      return results
    }
  }

  private func alone(_ request: EngineRequest) throws -> [TokenID] {
    let model = try Self.model.get()
    let session = try Session(model: model, contextLength: Self.context)
    var completion = try Completion(
      model: model, prompt: request.prompt, options: request.options,
      contextLength: Self.context)
    while completion.finishReason == nil {
      try session.append(completion.tokens[session.position...], logits: .last) { _, logits in
        _ = try completion.choose(from: logits)
      }
    }
    return Array(completion.tokens[request.prompt.count...])
  }

  @Test func everySequenceIsWhatItIsAlone() async throws {
    let engine = try engine()
    defer { engine.stop() }
    let requests = (0..<10).map {
      request(tokens(3 + 9 * $0, seed: UInt64($0)), 5 + $0, seed: UInt64($0))
    }
    for (result, request) in zip(try await run(engine, requests), requests) {
      #expect(result.tokens == (try alone(request)))
    }
    #expect(engine.statistics.sequenceSteps > engine.statistics.steps, "they ran together")
  }

  @Test func prefixesAreReusedFromKeptStates() async throws {
    let engine = try engine()
    defer { engine.stop() }
    let base = tokens(60)
    // The same again; longer; diverging midway, where no state is; shorter.
    let prompts = [
      base, base, base + tokens(20, seed: 2), Array(base[..<30]) + tokens(20, seed: 3),
      Array(base[..<40]),
    ]
    var cached: [Int] = []
    for prompt in prompts {
      let request = request(prompt, 4)
      let result = try await run(engine, [request])[0]
      #expect(result.tokens == (try alone(request)))
      cached.append(result.cached)
    }
    #expect(cached == [0, 59, 59, 0, 0])
    #expect(engine.statistics.prefilledTokens == 60 + 1 + 21 + 50 + 40)
    #expect(engine.statistics.reusedTokens == 59 + 59)
  }

  /// Several answers to one prompt share its state but for the last token.
  @Test func answersToOnePromptShareIt() async throws {
    let engine = try engine()
    defer { engine.stop() }
    let prompt = tokens(50)
    let requests = (0..<4).map { request(prompt, 12, seed: UInt64($0)) }
    let results = try await run(engine, requests)
    for (result, request) in zip(results, requests) {
      #expect(result.tokens == (try alone(request)))
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
      #expect(result.tokens == (try alone(request)))
    }
    #expect(engine.statistics.cacheTiles <= perSlot + 2)
  }
}
