import Inference
import TensorCore
import TestModels
import TestSupport
import Testing
import Tokenization

@testable import QuarryKit

@Suite struct EngineTests {
  /// What a request led to.
  struct Outcome: Equatable {
    var tokens: [TokenID] = []
    var text = ""
    var logprobs: [TokenLogprobs] = []
    var prompt: [TokenLogprobs] = []
    var summary: GenerationSummary?
  }

  private func engine(
    slots: Int = 4, context: Int = 2048, maxQueue: Int = 64, tiles: Int? = nil,
    cacheType: CacheType = .f16
  ) throws -> Engine {
    try Engine(
      model: Models.pebble,
      configuration: EngineConfiguration(
        slots: slots, contextLength: context, cacheType: cacheType, maxQueue: maxQueue,
        cacheTiles: tiles))
  }

  private func options(
    seed: UInt64 = 0, _ maxTokens: Int, _ change: (inout GenerationOptions) -> Void = { _ in }
  ) -> GenerationOptions {
    var options = GenerationOptions()
    options.seed = seed
    options.maxTokens = maxTokens
    options.logprobs = 3
    change(&options)
    return options
  }

  private func outcome(_ events: EngineEvents) async throws -> Outcome {
    var outcome = Outcome()
    for try await event in events {
      #expect(outcome.summary == nil, "nothing follows the summary")
      switch event {
      case .reading: break
      case .prompt(let logprobs): outcome.prompt = logprobs
      case .chosen(let choice):
        outcome.tokens.append(choice.token)
        outcome.text += choice.text
        outcome.logprobs.append(choice.logprobs!)
      case .finished(let summary): outcome.summary = summary
      }
    }
    return outcome
  }

  private func outcomes(_ streams: [EngineEvents]) async throws -> [Outcome] {
    try await withThrowingTaskGroup(of: (Int, Outcome).self) { group in
      for (index, stream) in streams.enumerated() {
        group.addTask { (index, try await self.outcome(stream)) }
      }
      var outcomes = [Outcome](repeating: Outcome(), count: streams.count)
      for try await (index, outcome) in group { outcomes[index] = outcome }
      return outcomes
    }
  }

  /// What the request leads to without an engine.
  private func alone(
    _ request: EngineRequest, context: Int = 2048, cacheType: CacheType = .f16
  ) throws -> Outcome {
    let session = try Session(
      model: Models.pebble, contextLength: context, cacheType: cacheType)
    var completion = try Completion(
      model: Models.pebble, prompt: request.prompt, options: request.options,
      contextLength: context)
    var outcome = Outcome()
    while completion.finishReason == nil {
      try session.append(completion.tokens[session.position...], logits: .last) { _, logits in
        let choice = try completion.choose(from: logits)
        outcome.tokens.append(choice.token)
        outcome.text += choice.text
        outcome.logprobs.append(choice.logprobs!)
      }
    }
    return outcome
  }

  private func expectSame(
    _ outcomes: [Outcome], as requests: [EngineRequest], context: Int = 2048,
    cacheType: CacheType = .f16
  ) throws {
    for (outcome, request) in zip(outcomes, requests) {
      let expected = try alone(request, context: context, cacheType: cacheType)
      #expect(outcome.tokens == expected.tokens)
      #expect(outcome.text == expected.text)
      #expect(outcome.logprobs == expected.logprobs)
    }
  }

  @Test(arguments: CacheType.allCases)
  func everyTextIsWhatItIsAlone(cacheType: CacheType) async throws {
    let engine = try engine(cacheType: cacheType)
    defer { engine.stop() }
    var random = SplitMix64(seed: 3)
    let requests = (0..<14).map { index in
      EngineRequest(
        prompt: Models.tokens(Int.random(in: 1...400, using: &random), seed: UInt64(index)),
        options: options(seed: UInt64(index), Int.random(in: 1...60, using: &random)) {
          $0.temperature = index % 3 == 0 ? 0 : 0.9
          $0.repetitionPenalty = index % 4 == 0 ? 1.2 : 1
          $0.frequencyPenalty = index % 5 == 0 ? 0.5 : 0
        })
    }
    let outcomes = try await outcomes(try engine.submit(requests))
    try expectSame(outcomes, as: requests, cacheType: cacheType)
    let statistics = engine.statistics
    #expect(statistics.sequenceSteps > statistics.steps, "they ran together")
    #expect(engine.requestCount == 0)
  }

  @Test func prefixesOfFinishedSequencesAreReusedExactly() async throws {
    let engine = try engine()
    defer { engine.stop() }
    let base = Models.tokens(700)
    // The same again, longer, shorter, diverging midway, and in the middle of a tile.
    let prompts = [
      base, base, base + Models.tokens(50, seed: 2), Array(base[..<300]),
      Array(base[..<411]) + Models.tokens(100, seed: 3), Array(base[..<256]) + [7, 8, 9],
    ]
    // The first answer is part of what is kept.
    let reusable = [0, 699, 700, 299, 411, 256]
    for (prompt, reusable) in zip(prompts, reusable) {
      let before = engine.statistics
      let request = EngineRequest(prompt: prompt, options: options(seed: 5, 12))
      let outcome = try await outcome(try engine.submit(request))
      try expectSame([outcome], as: [request])
      #expect(outcome.summary?.cachedTokens == reusable)
      let after = engine.statistics
      #expect(after.prefilledTokens - before.prefilledTokens == prompt.count - reusable)
      #expect(after.reusedTokens - before.reusedTokens == reusable)
    }
    // A following turn: prompt, answer, more.
    let first = EngineRequest(prompt: Models.tokens(40, seed: 9), options: options(20))
    let answer = try await outcome(try engine.submit(first))
    let turn = first.prompt + answer.tokens + Models.tokens(10, seed: 10)
    let second = EngineRequest(prompt: turn, options: options(20))
    let outcome = try await outcome(try engine.submit(second))
    // The last token that was chosen has not been computed.
    #expect(outcome.summary?.cachedTokens == first.prompt.count + answer.tokens.count - 1)
    try expectSame([outcome], as: [second])
  }

  @Test func sequencesThatRunSharePrefixes() async throws {
    let engine = try engine()
    defer { engine.stop() }
    let base = Models.tokens(600)
    let requests = (0..<4).map { index in
      EngineRequest(
        prompt: index == 3 ? Array(base[..<520]) + [1, 2, 3] : base,
        options: options(seed: 1, 20) { $0.choice = UInt32(index) })
    }
    let outcomes = try await outcomes(try engine.submit(requests))
    try expectSame(outcomes, as: requests)
    #expect(Set(outcomes.map(\.tokens)).count == 4)
    #expect(outcomes.map { $0.summary!.cachedTokens } == [0, 599, 599, 520])
    #expect(engine.statistics.prefilledTokens == 600 + 1 + 1 + 3)
  }

  @Test func aSmallCacheChangesNothing() async throws {
    // Room for one context only, and for six sequences of two tiles each.
    let engine = try engine(slots: 6, context: 768, tiles: 3)
    defer { engine.stop() }
    let requests = (0..<6).map {
      EngineRequest(
        prompt: Models.tokens(200, seed: UInt64($0)),
        options: options(seed: UInt64($0), 120) { $0.logitBias = [0: -100] })
    }
    let outcomes = try await outcomes(try engine.submit(requests))
    try expectSame(outcomes, as: requests, context: 768)
    #expect(engine.statistics.preemptions > 0)
    #expect(engine.statistics.cacheTiles <= 3)
  }

  @Test func promptsAreScored() async throws {
    let engine = try engine()
    defer { engine.stop() }
    let prompt = Models.tokens(300)
    var expected: [TokenLogprobs] = []
    try Session(model: Models.pebble).append(prompt, logits: .all) { index, logits in
      if index + 1 < prompt.count {
        expected.append(TokenLogprobs(prompt[index + 1], top: 2, logits: logits))
      }
    }
    // The second time a prefix is there, and must not be used.
    for generates in [true, false] {
      var request = EngineRequest(prompt: prompt, options: options(5), promptLogprobs: 2)
      request.generates = generates
      let outcome = try await outcome(try engine.submit(request))
      #expect(outcome.prompt == expected)
      #expect(outcome.tokens.count == (generates ? 5 : 0))
      #expect(outcome.summary?.cachedTokens == 0)
      if generates { try expectSame([outcome], as: [request]) }
    }
  }

  @Test func theQueueIsBounded() async throws {
    let engine = try engine(slots: 1, maxQueue: 2)
    defer { engine.stop() }
    let request = EngineRequest(prompt: [1, 2, 3], options: options(400))
    #expect(throws: EngineError.queueFull(limit: 3)) {
      try engine.submit(Array(repeating: request, count: 4))
    }
    #expect(engine.requestCount == 0, "all or none")
    let streams = try engine.submit([request, request, request])
    #expect(throws: EngineError.queueFull(limit: 3)) { try engine.submit(request) }
    let outcomes = try await outcomes(streams)
    #expect(outcomes.allSatisfy { $0.summary != nil })
    _ = try await outcome(try engine.submit(request))
  }

  @Test func whoHasReadTheEndFindsThePlaceFree() async throws {
    let engine = try engine(slots: 1, maxQueue: 0)
    defer { engine.stop() }
    let request = EngineRequest(prompt: [1, 2, 3], options: options(1))
    for count in 1...300 {
      #expect(try await outcome(try engine.submit(request)).tokens.count == 1)
      #expect(engine.requestCount == 0)
      #expect(engine.statistics.generatedTokens == count)
    }
  }

  @Test func whoeverStopsReadingFreesTheSlot() async throws {
    let engine = try engine(slots: 1, context: 8192)
    defer { engine.stop() }
    let endless = EngineRequest(
      prompt: [1, 2, 3], options: options(8000) { $0.logitBias = [0: -100] })
    let task = Task { try await outcome(try engine.submit(endless)) }
    while engine.statistics.generatedTokens < 3 { try await Task.sleep(for: .milliseconds(1)) }
    let next = Task {
      try await outcome(try engine.submit(EngineRequest(prompt: [4], options: options(3))))
    }
    while engine.requestCount < 2 { try await Task.sleep(for: .milliseconds(1)) }
    task.cancel()
    #expect(try await next.value.tokens.count == 3)
    #expect(engine.statistics.cancelled == 1)
    #expect(engine.statistics.generatedTokens < 8000)
  }

  @Test func aCancelledSequenceIsGoneBeforeTheNextStep() throws {
    let scheduler = try Scheduler(
      model: Models.pebble,
      configuration: EngineConfiguration(slots: 1, contextLength: 512, maxQueue: 8), cacheTiles: 2)
    func sequence(_ id: Int) throws -> Sequence {
      let request = EngineRequest(
        prompt: [1, 2, 3], options: options(100) { $0.logitBias = [0: -100] })
      let completion = try Completion(
        model: Models.pebble, prompt: request.prompt, options: request.options,
        contextLength: 512)
      return Sequence(
        id: id, request: request, completion: completion,
        events: EngineEvents.makeStream().continuation)
    }
    let sequences = try (0..<3).map(sequence)
    scheduler.enqueue(sequences)
    for _ in 0..<4 { #expect(scheduler.step().isEmpty) }
    #expect(sequences.map { $0.completion.outputCount } == [4, 0, 0])
    scheduler.cancel(0)
    scheduler.cancel(1)  // waits
    #expect(scheduler.step().map(\.id) == [0, 1])
    #expect(sequences.map { $0.completion.outputCount } == [4, 0, 1])
    scheduler.cancel(7)  // nobody
    #expect(scheduler.step().isEmpty)
  }

  @Test func stoppingEndsEverythingWithAReason() async throws {
    let engine = try engine(slots: 1, context: 8192)
    let endless = EngineRequest(
      prompt: [1, 2, 3], options: options(8000) { $0.logitBias = [0: -100] })
    let streams = try engine.submit([endless, endless])
    engine.close()
    #expect(throws: EngineError.stopped) { try engine.submit(endless) }
    #expect(engine.requestCount == 2, "those that run go on")
    engine.stop()
    for stream in streams {
      await #expect(throws: EngineError.stopped) {
        for try await _ in stream {}
      }
    }
    #expect(engine.requestCount == 0)
  }

  @Test func requestsThatCannotRunAreRefused() throws {
    let engine = try engine(context: 64)
    defer { engine.stop() }
    func refused(_ prompt: [TokenID], _ change: (inout GenerationOptions) -> Void = { _ in }) {
      #expect(throws: (any Error).self) {
        try engine.submit(EngineRequest(prompt: prompt, options: options(5, change)))
      }
    }
    refused([])
    refused([5000])
    refused(Models.tokens(64))
    refused([1]) { $0.temperature = -1 }
    refused([1]) { $0.logprobs = -1 }
    #expect(engine.requestCount == 0)
  }

  @Test func longPromptsAreReadInChunksWhileOthersSpeak() async throws {
    let engine = try engine(slots: 2, context: 8192)
    defer { engine.stop() }
    let speaker = EngineRequest(
      prompt: [1, 2, 3], options: options(200) { $0.logitBias = [0: -100] })
    let long = EngineRequest(prompt: Models.tokens(4000), options: options(1))
    let outcomes = try await outcomes(try engine.submit([speaker, long]))
    try expectSame(outcomes, as: [speaker, long], context: 8192)
    // At most 256 tokens of the prompt in a step.
    #expect(engine.statistics.steps >= 4000 / 256)
    #expect(engine.statistics.sequenceSteps >= 200 + 4000 / 256)
  }
}
