import Testing

@testable import Inference

@Suite struct LogitsProcessorTests {
  private func process(
    _ logits: [Float], prompt: [Int32] = [], output: [Int32] = [], stopTokens: Set<Int32> = [],
    _ change: (inout GenerationOptions) -> Void
  ) -> [Float] {
    var options = GenerationOptions()
    change(&options)
    var history = TokenHistory(prompt: prompt)
    for token in output { history.append(token) }
    var logits = logits
    logits.withUnsafeMutableBufferPointer { logits in
      for processor in options.makeProcessors(stopTokens: stopTokens) {
        processor.process(logits, history: history)
      }
    }
    return logits
  }

  @Test func defaultsChangeNothing() {
    #expect(GenerationOptions().makeProcessors(stopTokens: [1]).isEmpty)
  }

  @Test func minimumLengthMasksEveryStopToken() {
    let logits: [Float] = [1, 2, 3, 4]
    let stops: Set<Int32> = [1, 3]
    #expect(
      process(logits, output: [0], stopTokens: stops) { $0.minTokens = 2 }
        == [1, -.infinity, 3, -.infinity])
    #expect(process(logits, output: [0, 0], stopTokens: stops) { $0.minTokens = 2 } == logits)
  }

  @Test func biasIsAddedAndDoesNotUnmask() {
    #expect(process([1, 2, 3]) { $0.logitBias = [0: 0.5, 2: -4] } == [1.5, 2, -1])
    #expect(
      process([1, 2], stopTokens: [1]) {
        $0.minTokens = 1
        $0.logitBias = [1: 100]
      } == [1, -.infinity])
  }

  @Test func repetitionIsOverPromptAndOutputOnce() {
    #expect(
      process([4, -4, 4, -4, 4], prompt: [0, 1, 1], output: [1, 2, 3]) {
        $0.repetitionPenalty = 2
      } == [2, -8, 2, -8, 4])
  }

  @Test func frequencyAndPresenceAreOverOutput() {
    #expect(
      process([4, 4, 4], prompt: [0, 0], output: [1, 1, 1, 2]) { $0.frequencyPenalty = 0.5 }
        == [4, 2.5, 3.5])
    #expect(
      process([4, 4, 4], prompt: [0, 0], output: [1, 1, 1, 2]) { $0.presencePenalty = 0.5 }
        == [4, 3.5, 3.5])
  }

  /// Bias, then repetition, then frequency and presence: (3 + 1) / 2 − 0.5 · 2 − 0.25.
  @Test func order() {
    #expect(
      process([3], output: [0, 0]) {
        $0.logitBias = [0: 1]
        $0.repetitionPenalty = 2
        $0.frequencyPenalty = 0.5
        $0.presencePenalty = 0.25
      } == [0.75])
  }
}

@Suite struct GenerationOptionsTests {
  @Test func defaultsAreThePublishedService() throws {
    let options = GenerationOptions()
    #expect(options.temperature == 0.6 && options.topP == 0.9 && options.topK == 50)
    #expect(options.maxTokens == 512 && options.minTokens == 0)
    #expect(options.presencePenalty == 0 && options.frequencyPenalty == 0)
    #expect(options.repetitionPenalty == 1 && options.minP == 0)
    try options.validate(vocabularySize: 10)
  }

  static let refused: [(String, @Sendable (inout GenerationOptions) -> Void)] = [
    ("temperature", { $0.temperature = -0.1 }), ("temperature", { $0.temperature = .nan }),
    ("temperature", { $0.temperature = .infinity }), ("top_k", { $0.topK = -2 }),
    ("top_p", { $0.topP = 0 }), ("top_p", { $0.topP = 1.01 }), ("top_p", { $0.topP = .nan }),
    ("min_p", { $0.minP = -0.1 }), ("min_p", { $0.minP = 1.1 }),
    ("presence_penalty", { $0.presencePenalty = 2.1 }),
    ("frequency_penalty", { $0.frequencyPenalty = -2.1 }),
    ("repetition_penalty", { $0.repetitionPenalty = 0 }),
    ("repetition_penalty", { $0.repetitionPenalty = 1e300 }),
    ("repetition_penalty", { $0.repetitionPenalty = .infinity }),
    ("max_tokens", { $0.maxTokens = 0 }), ("min_tokens", { $0.minTokens = -1 }),
    ("min_tokens", { $0.minTokens = 513 }), ("logit_bias", { $0.logitBias = [10: 1] }),
    ("logit_bias", { $0.logitBias = [-1: 1] }), ("logit_bias", { $0.logitBias = [1: 101] }),
    ("logit_bias", { $0.logitBias = [1: .nan] }), ("stop", { $0.stop = ["a", ""] }),
  ]

  @Test(arguments: refused.indices) func outsideTheRange(index: Int) {
    let (name, change) = Self.refused[index]
    var options = GenerationOptions()
    change(&options)
    let error = #expect(throws: InvalidOption.self) {
      try options.validate(vocabularySize: 10)
    }
    #expect(error?.name == name)
  }

  @Test(
    arguments: [
      { $0.temperature = 0 }, { $0.topK = 0 }, { $0.topK = -1 }, { $0.topP = 1 }, { $0.minP = 1 },
      { $0.minTokens = 512 }, { $0.logitBias = [9: -100] }, { $0.repetitionPenalty = 0.1 },
    ] as [@Sendable (inout GenerationOptions) -> Void])
  func atTheEdge(change: @Sendable (inout GenerationOptions) -> Void) throws {
    var options = GenerationOptions()
    change(&options)
    try options.validate(vocabularySize: 10)
  }

  @Test func errorSaysWhatIsPossible() {
    var options = GenerationOptions()
    options.topP = 3
    let error = #expect(throws: InvalidOption.self) { try options.validate(vocabularySize: 10) }
    #expect("\(error!)" == "top_p is 3.0; it must be above 0 and at most 1")
  }
}
