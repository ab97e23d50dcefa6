import JSON
import TensorCore
import TestSupport
import Testing

@testable import Inference

@Suite struct SharingTests {
  private let kernels = Kernels(InstructionSet.supported.last!)

  /// Sequences that go on differently from a shared beginning, in turns: each is as if alone.
  @Test(arguments: CacheType.allCases, [1, 255, 256, 257, 300, 520])
  func whoSharesNoticesNothing(cacheType: CacheType, position: Int) throws {
    try expectNothingNoticed([:], cacheType, position)
  }

  /// The same where states have to be computed again.
  @Test(arguments: [1, 257, 520]) func whoSharesStatesNoticesNothing(position: Int) throws {
    try expectNothingNoticed(TinyModel.hybrid, .f16, position)
  }

  private func expectNothingNoticed(
    _ settings: [String: JSONValue], _ cacheType: CacheType, _ position: Int
  ) throws {
    let model = try TinyModel(settings).model(kernels: kernels)
    let common = randomTokens(520, seed: 1)
    let first = try Session(model: model, cacheType: cacheType)
    try first.append(common)
    let second = Session(sharing: first, upTo: position)
    let third = Session(sharing: second, upTo: position)
    #expect(second.tokens == Array(common[..<position]))
    let tails = [randomTokens(30, seed: 2), randomTokens(30, seed: 3), randomTokens(30, seed: 4)]
    var logits = [[Float]](repeating: [], count: 3)
    for range in [0..<1, 1..<20, 20..<30] {
      for (index, session) in [first, second, third].enumerated() {
        logits[index] = try session.logits(appending: tails[index][range])
      }
    }
    // And one that goes back into what it shares.
    third.truncate(to: position - 1)
    let again = try third.logits(appending: [5])
    for (index, count) in [520, position, position].enumerated() {
      let alone = try Session(model: model, cacheType: cacheType)
      let expected = try alone.logits(appending: Array(common[..<count]) + tails[index])
      #expect(logits[index] == expected, "sequence \(index)")
    }
    let alone = try Session(model: model, cacheType: cacheType)
    #expect(again == (try alone.logits(appending: Array(common[..<(position - 1)]) + [5])))
  }

  @Test func tilesAreCountedOnceAndGivenBack() throws {
    let model = try TinyModel().model(kernels: kernels)
    let budget = CacheBudget()
    let first = try Session(model: model, budget: budget)
    #expect(first.newTiles(appending: 300) == 2)
    try first.append(randomTokens(300))
    #expect(budget.tileCount == 2)
    #expect(first.newTiles(appending: 100) == 0)
    do {
      let second = Session(sharing: first, upTo: 280)
      #expect(budget.tileCount == 2)
      // The second tile will be copied by whoever writes there.
      #expect(second.newTiles(appending: 1) == 1)
      #expect(second.newTiles(appending: 300) == 2)
      #expect(first.newTiles(appending: 1) == 1)
      try second.append([1])
      #expect(budget.tileCount == 3)
      #expect(first.newTiles(appending: 1) == 0)
      #expect(second.newTiles(appending: 1) == 0)
      withExtendedLifetime(second) {}
    }
    #expect(budget.tileCount == 2)
    withExtendedLifetime(first) {}
  }

  @Test func aBatchGivesTheLogitsOfEveryToken() throws {
    let model = try TinyModel().model(kernels: kernels)
    let tokens = randomTokens(50)
    let expected = try Session(model: model).allLogits(appending: tokens)
    let sessions = try (0..<2).map { _ in try Session(model: model) }
    var received: [[Float]] = []
    let errors = Batch(model: model).run([
      .init(sessions[0], tokens: [1, 2, 3], logits: .none),
      .init(sessions[1], tokens: tokens, logits: .all),
    ]) { step, token, logits in
      #expect(step == 1 && token == received.count)
      received.append(Array(logits))
    }
    #expect(errors == [nil, nil])
    #expect(received == expected)
  }

  /// What continuations are worth, token by token, whatever else is asked for.
  @Test(arguments: [[:], TinyModel.hybrid])
  func continuationsAreScored(settings: [String: JSONValue]) throws {
    let model = try TinyModel(settings).model(kernels: kernels)
    let prompt = randomTokens(40, seed: 9)
    let continuations: [[Int32]] = [[5], [7, 8, 9], [5, 6], [7]]
    let session = try Session(model: model)
    let scores = try session.scores(of: continuations, after: prompt)
    #expect(session.tokens == prompt)
    for (score, continuation) in zip(scores, continuations) {
      let logits = try Session(model: model).allLogits(appending: prompt + continuation)
      var expected = 0.0
      for (index, token) in continuation.enumerated() {
        logits[prompt.count - 1 + index].withUnsafeBufferPointer {
          expected += TokenLogprobs(token, top: 0, logits: $0).logprob
        }
      }
      #expect(score.tokens == continuation && score.logprob == expected)
    }
    #expect(throws: InferenceError.emptyPrompt) { try session.scores(of: [[1]], after: []) }
    let next = try session.logits(appending: [3])
    #expect(next == (try Session(model: model).logits(appending: prompt + [3])))
  }

  @Test func logprobsAreThoseOfTheLogits() {
    let logits: [Float] = [1, 3, -2, 3, 0.5, 3]
    logits.withUnsafeBufferPointer { logits in
      let some = TokenLogprobs(2, top: 4, logits: logits)
      #expect(some.top.map(\.token) == [1, 3, 5, 0], "of equals the lowest id first")
      #expect(some.top[0].logprob == some.top[2].logprob)
      #expect(some.top[0].logprob - some.logprob == 5)
      let all = TokenLogprobs(0, top: 99, logits: logits)
      #expect(all.top.count == 6)
      #expect(abs(all.top.reduce(0) { $0 + PortableMath.exp($1.logprob) } - 1) < 1e-12)
      #expect(TokenLogprobs(0, top: 0, logits: logits).top.isEmpty)
    }
  }

  @Test func specialTokensCanBeShown() throws {
    func text(_ change: (inout GenerationOptions) -> Void) throws -> String {
      var options = GenerationOptions()
      (options.temperature, options.maxTokens) = (0, 5)
      change(&options)
      var generator = try Generator(
        session: try Session(model: ScriptedModel.make()), prompt: [9], options: options,
        stopTokens: [])
      var text = ""
      while let event = try generator.next() {
        if case .text(let piece) = event { text += piece }
      }
      return text
    }
    #expect(try text { _ in } == ".Hello w")
    #expect(try text { $0.visibleTokens = [0] } == ".<|end|>Hello w")
    #expect(try text { ($0.visibleTokens, $0.stop) = ([0], ["end|>He"]) } == ".<|")
  }
}
