import JSON
import TensorCore
import Testing

@testable import Inference

@Suite struct GeneratorTests {
  private struct Outcome: Equatable {
    var tokens: [Int32] = []
    var texts: [String] = []
    var summary: GenerationSummary?
    var text: String { texts.joined() }
    var reason: FinishReason? { summary?.finishReason }
  }

  private func generate(
    _ session: Session, _ prompt: [Int32], _ change: (inout GenerationOptions) -> Void = { _ in }
  ) throws -> Outcome {
    var options = GenerationOptions()
    change(&options)
    var generator = try Generator(session: session, prompt: prompt, options: options)
    var outcome = Outcome()
    while let event = try generator.next() {
      #expect(outcome.summary == nil, "nothing follows the summary")
      switch event {
      case .token(let token): outcome.tokens.append(token)
      case .text(let text):
        #expect(!text.isEmpty)
        outcome.texts.append(text)
      case .finished(let summary): outcome.summary = summary
      }
    }
    #expect(try generator.next() == nil)
    return outcome
  }

  private func scripted(context: Int? = nil, certainty: Float = 32) throws -> Session {
    try Session(model: ScriptedModel.make(certainty: certainty), contextLength: context)
  }

  @Test func streamsWholeCharactersUntilAStopToken() throws {
    let outcome = try generate(try scripted(), [1])
    #expect(outcome.tokens == [2, 3, 4, 5, 6, 7, 8, 9, 10, 0])
    #expect(outcome.texts == ["llo", " w", "ö", "rld", " ST", "OP", " more", "."])
    #expect(outcome.reason == .stop)
    #expect(outcome.summary?.completionTokens == 10)
    #expect(outcome.summary?.promptTokens == 1)
    #expect(outcome.summary?.cachedTokens == 0)
    #expect(outcome.summary!.decodeTime > .zero && outcome.summary!.prefillTime > .zero)
  }

  @Test func stopStringsAcrossTokensAreNeverShown() throws {
    let outcome = try generate(try scripted(), [1]) { $0.stop = ["nothing", "STOP"] }
    #expect(outcome.texts == ["llo", " w", "ö", "rld", " "])
    #expect(outcome.reason == .stop)
    #expect(outcome.tokens == [2, 3, 4, 5, 6, 7, 8])
  }

  @Test func heldTextIsShownAtTheEnd() throws {
    let outcome = try generate(try scripted(), [1]) { $0.stop = [".."] }
    #expect(outcome.text == "llo wörld STOP more.")
  }

  @Test func minimumLengthPassesOverStopStringsAndStopTokens() throws {
    let text = try generate(try scripted(), [1]) {
      $0.stop = ["llo", "rld"]
      $0.minTokens = 2
    }
    #expect(text.text == "llo wö")
    // The end is masked once; of the others, all equal, greedy takes the lowest.
    let token = try generate(try scripted(), [10]) {
      $0.temperature = 0
      $0.minTokens = 1
      $0.maxTokens = 3
    }
    #expect(token.tokens == [1, 2, 3])
  }

  @Test func lengthEndsInTheMiddleOfACharacter() throws {
    let outcome = try generate(try scripted(), [1]) { $0.maxTokens = 3 }
    #expect(outcome.tokens == [2, 3, 4])
    #expect(outcome.text == "llo w\u{FFFD}")
    #expect(outcome.reason == .length)
  }

  @Test func theContextEndsTheCompletion() throws {
    let outcome = try generate(try scripted(context: 6), [1, 2])
    #expect(outcome.tokens == [3, 4, 5, 6])
    #expect(outcome.reason == .length)
  }

  @Test func cancellingEndsTheCompletion() throws {
    let session = try scripted()
    var asked = 0
    session.isCancelled = {
      asked += 1
      return asked > 3
    }
    let outcome = try generate(session, [1]) { $0.stop = ["wx"] }
    #expect(outcome.tokens == [2, 3, 4])
    #expect(outcome.text == "llo w\u{FFFD}")
    #expect(outcome.reason == .cancelled)
  }

  @Test func cancelledTasksStop() async throws {
    let task = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      return try generate(try scripted(), [1]).reason
    }
    #expect(try await task.value == .cancelled)
  }

  @Test func refusals() throws {
    let session = try scripted(context: 4)
    #expect(throws: InferenceError.emptyPrompt) { try generate(session, []) }
    #expect(throws: InferenceError.contextExceeded(needed: 5, limit: 4)) {
      try generate(session, [1, 2, 3, 4])
    }
    #expect(throws: InferenceError.tokenOutOfRange(token: 11, index: 1, vocabularySize: 11)) {
      try generate(session, [1, 11])
    }
    #expect(throws: InvalidOption.self) { try generate(session, [1]) { $0.topP = 0 } }
    // Without a tokenizer there is no text to find a stop string in.
    let silent = try Session(model: TinyModel().model())
    #expect(throws: InvalidOption.self) { try generate(silent, [1]) { $0.stop = ["a"] } }
    #expect(try generate(silent, [1]) { $0.maxTokens = 3 }.texts.isEmpty)
  }

  @Test func biasDecides() throws {
    let outcome = try generate(try scripted(), [1]) {
      $0.logitBias = [7: 100]
      $0.maxTokens = 3
    }
    #expect(outcome.tokens == [7, 7, 7])
  }

  @Test func repetitionIsPenalized() throws {
    // 2 leads by 3; once said it loses 4, so that the first of the others leads.
    let outcome = try generate(try scripted(certainty: 3), [1, 1]) {
      $0.temperature = 0
      $0.presencePenalty = 2
      $0.frequencyPenalty = 2
      $0.logitBias = [2: 3]
      $0.maxTokens = 2
    }
    #expect(outcome.tokens == [2, 3])
  }

  @Test func aSecondTurnReusesTheCommonPrefix() throws {
    let session = try scripted()
    _ = try generate(session, [1, 2, 3]) { $0.maxTokens = 3 }
    let again = try generate(session, [1, 2, 3, 4, 5, 9])
    // Five were computed: the prompt and the answer but for its last token, 6.
    #expect(again.summary?.cachedTokens == 5)
    #expect(again.tokens == (try generate(try scripted(), [1, 2, 3, 4, 5, 9])).tokens)
    // A prompt seen before is computed again from its last token.
    #expect(try generate(session, [1, 2]).summary?.cachedTokens == 1)
  }

  /// The same seed gives the same tokens whatever was cached and however the prompt was cut.
  @Test func seedsReproduce() throws {
    let model = try TinyModel(["logits_scaling": 40.0], encodings: [.q4b16]).model()
    let prompt = randomTokens(30)
    func tokens(seed: UInt64, choice: UInt32 = 0, chunk: Int = 64, warm: Bool = false) throws
      -> [Int32]
    {
      let session = try Session(model: model, chunkLength: chunk)
      if warm { try session.append(prompt[..<17]) }
      return try generate(session, prompt) {
        $0.temperature = 1
        $0.topP = 1
        $0.topK = 0
        $0.maxTokens = 20
        $0.seed = seed
        $0.choice = choice
      }.tokens
    }
    let expected = try tokens(seed: 42)
    #expect(try tokens(seed: 42, chunk: 7) == expected)
    #expect(try tokens(seed: 42, warm: true) == expected)
    #expect(try tokens(seed: 43) != expected)
    #expect(try tokens(seed: 42, choice: 1) != expected)
  }
}
