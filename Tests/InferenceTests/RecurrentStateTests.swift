import TensorCore
import TestSupport
import Testing
import Tokenization

@testable import Inference

/// Models with Mamba2 layers: states of sequences, and copies of them.
@Suite struct RecurrentStateTests {
  private let kernels = Kernels(InstructionSet.supported.last!)

  private func model(threads: Int = 2, _ kernels: Kernels? = nil) throws -> Model {
    try TinyModel(TinyModel.hybrid, encodings: [.q8b16, .f32]).model(
      threads: threads, kernels: kernels ?? self.kernels)
  }

  /// However a prompt is cut, whatever computes it.
  @Test func bitsDependOnTheTokensAlone() throws {
    let tokens = randomTokens(70, seed: 5)
    let expected = try Session(model: model(threads: 1, Kernels(.scalar))).allLogits(
      appending: tokens)
    for instructionSet in InstructionSet.supported {
      for (threads, chunk) in [(1, 256), (2, 1), (3, 7), (7, 33)] {
        let session = try Session(
          model: model(threads: threads, Kernels(instructionSet)), chunkLength: chunk)
        #expect(try session.allLogits(appending: tokens) == expected, "\(instructionSet), \(chunk)")
      }
    }
  }

  @Test func aTokenChangesAllThatFollow() throws {
    var tokens = randomTokens(40, seed: 6)
    let first = try Session(model: model()).logits(appending: tokens)
    tokens[0] = (tokens[0] + 1) % 307
    #expect(try Session(model: model()).logits(appending: tokens) != first)
  }

  /// What was forgotten leaves no trace; tokens run again only behind the last kept state.
  @Test func truncationGoesBackToAKeptState() throws {
    let model = try model()
    let tokens = randomTokens(300, seed: 7)
    let session = try Session(model: model)
    #expect(session.restartPosition(upTo: 0) == 0)
    try session.append(tokens[..<100])
    session.keepState()
    try session.append(tokens[100..<280])
    #expect(session.restartPosition(upTo: 280) == 280)
    #expect(session.restartPosition(upTo: 279) == 100)
    #expect(session.restartPosition(upTo: 99) == 0)
    for position in [270, 100, 60] {
      session.truncate(to: position)
      let expected = try Session(model: model).logits(
        appending: Array(tokens[..<position]) + [1, 2, 3])
      #expect(try session.logits(appending: [1, 2, 3]) == expected, "\(position)")
    }
  }

  /// A pass that fails has changed the states of all its sequences: they go on as if it had not been.
  @Test func failedPassesLeaveNoTrace() throws {
    let model = try model()
    let tokens = randomTokens(50, seed: 8)
    let sessions = try (0..<2).map { _ in try Session(model: model) }
    for session in sessions { try session.append(tokens) }
    let batch = Batch(model: model)
    // The second sequence's state is poisoned, so that its rows cannot pass the last layers.
    let poisoned = sessions[1].state!
    for head in 0..<6 { poisoned.layout.heads(0)[head][0] = .infinity }
    var logits: [Int: [Float]] = [:]
    let errors = batch.run(sessions.map { .init($0, tokens: [4]) }) { logits[$0] = Array($2) }
    #expect(errors[0] == nil)
    guard case .nonFiniteActivation(position: 50, layer: 0)? = errors[1] else {
      Issue.record("unexpected: \(String(describing: errors[1]))")
      return
    }
    let expected = try Session(model: model).logits(appending: tokens + [4])
    #expect(logits == [0: expected])
    #expect(sessions[1].position == 50)
    #expect(try sessions[1].logits(appending: [4]) == expected)
  }

  @Test func fewStatesAreKeptTheDenserTheCloserToTheEnd() throws {
    let session = try Session(model: model())
    for token in randomTokens(64) {
      try session.append([token])
      session.keepState()
    }
    let positions = (1...64).filter { session.restartPosition(upTo: $0) == $0 }
    #expect(positions.count == 6)
    #expect(positions.suffix(2) == [63, 64])
    #expect(positions[0] < 40, "\(positions)")
    let gaps = zip(positions, positions.dropFirst()).map { $1 - $0 }
    #expect(gaps == gaps.sorted(by: >), "\(positions)")
  }

  @Test func statesCountInTheBudget() throws {
    let model = try model()
    let perState = CacheBudget.stateTileCount(model.shape, .f16)
    #expect(perState > 0)
    #expect(CacheBudget.tileCount(300, of: model, .f16) == 2 + perState)
    let budget = CacheBudget()
    let session = try Session(model: model, budget: budget)
    #expect(session.newTiles(appending: 300) == 2 + perState)
    try session.append(randomTokens(300))
    #expect(budget.tileCount == 2 + perState)
    session.keepState()
    #expect(budget.tileCount == 2 + 2 * perState)
    #expect(budget.keptTileCount == perState)
    #expect(session.dropKeptState())
    #expect(!session.dropKeptState())
    #expect(budget.tileCount == 2 + perState && budget.keptTileCount == 0)
    withExtendedLifetime(session) {}
  }

  @Test func generationKeepsTheStateBehindAPromptIfAsked() throws {
    let model = try model()
    let prompt = randomTokens(20, seed: 10)
    for isKept in [false, true] {
      let session = try Session(model: model)
      var options = GenerationOptions()
      options.maxTokens = 5
      var generator = try Generator(
        session: session, prompt: prompt, options: options, stopTokens: [], keepsPromptState: isKept
      )
      while try generator.next() != nil {}
      #expect(session.position == 24)
      #expect(session.restartPosition(upTo: 23) == (isKept ? 20 : 0))
    }
  }

  /// A state that another sequence began with is kept longer, and counts once for both.
  @Test func whatWasUsedLeastRecentlyIsForgottenFirst() throws {
    let model = try model()
    let budget = CacheBudget()
    let tokens = randomTokens(70, seed: 9)
    let first = try Session(model: model, budget: budget)
    for (range, isKept) in [(0..<40, true), (40..<60, true), (60..<70, false)] {
      try first.append(tokens[range])
      if isKept { first.keepState() }
    }
    #expect(first.leastRecentUse == 0)
    let second = Session(sharing: first, upTo: 50)
    #expect(second.leastRecentUse == 1)
    #expect(budget.keptTileCount == 2 * CacheBudget.stateTileCount(model.shape, .f16))
    #expect(first.dropKeptState())
    #expect(first.restartPosition(upTo: 69) == 40)
    #expect(first.leastRecentUse == 1)
    let expected = try Session(model: model).logits(appending: tokens[..<50] + [7])
    #expect(try second.logits(appending: [7]) == expected)
    first.truncate(to: 50)
    #expect(try first.logits(appending: [7]) == expected)
  }
}
