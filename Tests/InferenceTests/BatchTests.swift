import JSON
import TensorCore
import TestSupport
import Testing

@testable import Inference

@Suite struct BatchTests {
  /// Sequences of different lengths, cache types and steps, some of whose tokens wait: the logits of
  /// each are those that it gets alone.
  @Test(arguments: InstructionSet.supported, [1, 2, 5])
  func everySequenceIsAsIfAlone(instructionSet: InstructionSet, threads: Int) throws {
    try expectIndependence(["num_attention_heads": 6], instructionSet, threads)
  }

  @Test(arguments: InstructionSet.supported, [1, 2, 5])
  func everyRecurrentSequenceIsAsIfAlone(instructionSet: InstructionSet, threads: Int) throws {
    try expectIndependence(TinyModel.hybrid, instructionSet, threads)
  }

  @Test(arguments: InstructionSet.supported, [1, 3])
  func everySequenceOfABigCodeIsAsIfAlone(instructionSet: InstructionSet, threads: Int) throws {
    try expectIndependence(TinyModel.bigCode, instructionSet, threads)
  }

  private func expectIndependence(
    _ settings: [String: JSONValue], _ instructionSet: InstructionSet, _ threads: Int
  ) throws {
    let tiny = try TinyModel(settings, encodings: [.q4b16, .q8b32, .f32])
    let model = try tiny.model(threads: threads, kernels: Kernels(instructionSet))
    let lengths = instructionSet == .scalar ? [3, 40, 7] : [3, 300, 280, 70, 1, 33, 258]
    let sequences = lengths.enumerated().map { randomTokens($1, seed: UInt64($0)) }
    let types = lengths.indices.map { CacheType.allCases[$0 % 3] }
    let expected = try zip(sequences, types).map {
      try Session(model: model, cacheType: $1).allLogits(appending: $0)
    }

    var random = SplitMix64(seed: UInt64(threads))
    let sessions = try types.map { try Session(model: model, cacheType: $0) }
    let batch = Batch(model: model)
    var rounds = 0
    while zip(sessions, sequences).contains(where: { $0.position < $1.count }) {
      var steps: [Batch.Step] = []
      for (session, sequence) in zip(sessions, sequences) {
        if Int.random(in: 0..<5, using: &random) == 0 { continue }
        // Mostly single tokens near the end, long chunks before.
        let left = sequence.count - session.position
        let count = left > 20 ? Int.random(in: 1...left, using: &random) : min(left, 1)
        let next = sequence[session.position..<session.position + count]
        steps.append(.init(session, tokens: Array(next), logits: rounds % 4 == 3 ? .none : .last))
      }
      var received: Set<Int> = []
      let errors = batch.run(steps) { index, _, logits in
        received.insert(index)
        let sequence = sessions.firstIndex { $0 === steps[index].session }!
        let position = sessions[sequence].position
        #expect(Array(logits) == expected[sequence][position - 1], "sequence \(sequence)")
      }
      #expect(errors == steps.map { _ in nil })
      let wanted = steps.indices.filter {
        steps[$0].logits == .last && !steps[$0].tokens.isEmpty
      }
      #expect(received == Set(wanted))
      rounds += 1
    }
    #expect(rounds > 3)
    #expect(sessions.map(\.tokens) == sequences)
  }

  /// One sequence after another fails, in different ways; the others notice nothing.
  @Test(arguments: InstructionSet.supported)
  func errorsStayWithTheirSequence(instructionSet: InstructionSet) throws {
    let model = try TinyModel.withLargeValues().model(kernels: Kernels(instructionSet))
    let sessions = try (0..<6).map {
      try Session(
        model: model, contextLength: $0 == 2 ? 3 : 20, cacheType: $0 == 4 ? .f32 : .f16)
    }
    for session in sessions { try session.append([1, 2, 3]) }
    let tokens: [[Int32]] = [[4], [5, 9], [4], [307], [9, 6], [7, 8]]
    var received: [Int: [Float]] = [:]
    let batch = Batch(model: model)
    let errors = batch.run(zip(sessions, tokens).map { .init($0, tokens: $1) }) {
      received[$0] = Array($2)
    }
    #expect(
      errors == [
        nil, .cacheRange(type: .f16, position: 4, layer: 0), .contextExceeded(needed: 4, limit: 3),
        .tokenOutOfRange(token: 307, index: 0, vocabularySize: 307), nil, nil,
      ])
    #expect(sessions.map(\.position) == [4, 3, 3, 3, 5, 5])
    #expect(received.keys.sorted() == [0, 4, 5])
    for (index, logits) in received {
      let alone = try Session(model: model, cacheType: sessions[index].cacheType)
      #expect(logits == (try alone.logits(appending: [1, 2, 3] + tokens[index])))
    }
    // Those that failed go on with something else.
    let again = batch.run([.init(sessions[1], tokens: [5]), .init(sessions[3], tokens: [6])]) {
      received[$0] = Array($2)
    }
    #expect(again == [nil, nil])
    #expect(received[0] == (try Session(model: model).logits(appending: [1, 2, 3, 5])))
  }

  @Test func whatFailsAfterTheLayers() throws {
    // Damage in a row of the output projection; whoever asks for logits sees it.
    var tiny = try TinyModel(["tie_word_embeddings": false])
    let output = tiny.matrices["lm_head.weight"]!
    tiny.matrices["lm_head.weight"] = .packed(output.geometry) { row, column in
      row == 5 ? .infinity : Reference.dequantize(output, row: row, column: column)
    }
    let model = try tiny.model()
    let sessions = try (0..<2).map { _ in try Session(model: model) }
    let errors = Batch(model: model).run([
      .init(sessions[0], tokens: [1, 2]), .init(sessions[1], tokens: [1], logits: .none),
    ]) { _, _, _ in Issue.record("there are no logits") }
    #expect(errors == [.nonFiniteLogits(position: 1), nil])
    #expect(sessions.map(\.position) == [2, 1])
  }
}
