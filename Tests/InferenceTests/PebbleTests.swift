import Conversion
import Foundation
import JSON
import Synchronization
import TensorCore
import TestSupport
import Testing
import Tokenization

@testable import Inference

/// The bundled model: a real, trained one, so that damage by quantization can be judged.
@Suite(.serialized) struct PebbleTests {
  /// Against transformers in float32, by a slab of the recipe that loses nothing.
  @Test(arguments: [Recipe.f32, .bf16]) func logitsAgreeWithTheReference(recipe: Recipe) throws {
    let golden = try Golden(Place.goldens.appending(path: "pebble/reference-logits.safetensors"))
    let session = try Session(
      model: Slabs.pebble(recipe), activations: .f32, cacheType: .f32)
    let expected = golden.floats("logits")
    var worst: Float = 0
    try session.append(golden.ids("ids"), logits: .all) { row, logits in
      for (a, b) in zip(logits, expected[row * logits.count..<(row + 1) * logits.count]) {
        worst = max(worst, abs(a - b))
      }
    }
    #expect(session.position == 256)
    #expect(worst <= 2e-4)
  }

  @Test func logitsOfOurOwnTextAgreeWithTheReference() throws {
    let golden = try Golden(Place.goldens.appending(path: "pebble/evaluation.safetensors"))
    let session = try Session(
      model: Slabs.pebble(.f32), activations: .f32, cacheType: .f32)
    let ids = golden.ids("ids")
    let model = session.model
    #expect(try Array(model.tokenizer!.encode(Self.handbook()).prefix(512)) == ids)
    let expected = golden.floats("logits")
    var worst: Float = 0
    try session.append(ids[..<384])
    try session.append(ids[384...], logits: .all) { row, logits in
      for (a, b) in zip(logits, expected[row * logits.count..<(row + 1) * logits.count]) {
        worst = max(worst, abs(a - b))
      }
    }
    #expect(worst <= 2e-4)
  }

  private static func handbook() throws -> String {
    try String(
      contentsOf: Place.goldens.appending(path: "text/quarry-handbook.txt"), encoding: .utf8)
  }

  /// Recipe, activations, and the most that the divergence may be on the novel and on our own text.
  static let bounds: [(recipe: Recipe, activations: ActivationPrecision, Double, Double)] = [
    (.q4, .f32, 0.0050, 0.0065), (.q4s, .f32, 0.0070, 0.0095), (.q8s, .f32, 0.0001, 0.0001),
    (.q8, .int8, 0.0005, 0.0005), (.q8s, .int8, 0.0005, 0.0005), (.q4, .int8, 0.0055, 0.0070),
  ]

  /// Perplexity as transformers computes it in float32, to four digits and better.
  @Test(arguments: [0, 256]) func perplexityIsThatOfTheReference(skip: Int) throws {
    let url = Place.goldens.appending(path: "pebble/perplexity.json")
    let golden = try JSONValue(parsing: String(contentsOf: url, encoding: .utf8))
    let expected = try #require(golden["skip_\(skip)"])
    let session = try Session(model: Slabs.pebble(.f32), activations: .f32, cacheType: .f32)
    let tokens = try session.model.tokenizer!.encode(Self.handbook())
    let windows = TokenWindows(tokens, length: 512, skip: skip, limit: 8)
    #expect(windows.windows.count == 8)
    let result = try Evaluation(of: session, on: windows)
    let losses = try #require(expected["loss_by_window"]?.array).compactMap(\.double)
    #expect(losses.count == 8)
    for (window, loss) in zip(result.windows, losses) { #expect(abs(window.loss - loss) < 1e-5) }
    let perplexity = try #require(expected["perplexity"]?.double)
    #expect(abs(result.perplexity.value / perplexity - 1) < 1e-5)
  }

  /// KL divergence to the bf16 model over 8 windows of 512 tokens; no calibration, no column scales.
  @Test(.enabled(if: Place.shared != nil, "needs ../shared"), arguments: bounds.indices)
  func divergenceOnANovel(index: Int) throws {
    let (recipe, activations, bound, _) = Self.bounds[index]
    let text = try String(
      contentsOf: Place.shared!.appending(path: "data/railway-children.txt"), encoding: .utf8)
    try expectDivergence(recipe, activations, text: text, atMost: bound)
  }

  @Test(arguments: bounds.indices) func divergenceOnOurOwnText(index: Int) throws {
    let (recipe, activations, _, bound) = Self.bounds[index]
    try expectDivergence(recipe, activations, text: Self.handbook(), atMost: bound)
  }

  private func expectDivergence(
    _ recipe: Recipe, _ activations: ActivationPrecision, text: String, atMost bound: Double
  ) throws {
    let reference = try Session(
      model: Slabs.pebble(.bf16), activations: .f32, cacheType: .f32)
    let candidate = try Session(model: Slabs.pebble(recipe), activations: activations)
    let tokens = try candidate.model.tokenizer!.encode(text)
    let evaluation = try Evaluation(
      of: candidate, reference: reference, on: TokenWindows(tokens, skip: 0, limit: 8))
    let result = try #require(evaluation.divergence)
    print(
      "KL \(recipe) activations \(activations): \(result.mean.mean) ± "
        + "\(result.mean.standardError), p99 \(result.percentile99), top-1 "
        + "\(result.top1Agreement.mean), perplexity \(evaluation.perplexity.value) of "
        + "\(result.referencePerplexity.value)")
    #expect(evaluation.tokenCount == 8 * 511)
    #expect(result.mean.mean <= bound)
    #expect(result.mean.mean > 0)
    #expect(result.top1Agreement.mean > 0.9)
  }
}

/// Questions that Pebble was trained to answer, and paraphrases of such questions.
@Suite(.serialized) struct QuestionTests {
  private struct Question {
    let set: String
    let question: String
    let answer: String
    /// What the bf16 model answers.
    let reference: String
  }

  private static func questions() throws -> [Question] {
    let url = Place.goldens.appending(path: "pebble/questions.jsonl")
    return try String(contentsOf: url, encoding: .utf8).split(separator: "\n").map { line in
      let value = try JSONValue(parsing: String(line))
      func text(_ name: String) -> String { value[name]!.string! }
      return Question(
        set: text("set"), question: text("question"), answer: text("answer"),
        reference: text("reference"))
    }
  }

  /// Greedy answers, as many questions at a time as there are threads.
  private func answers(
    _ questions: [Question], _ recipe: Recipe, _ activations: ActivationPrecision
  ) throws -> [String] {
    let model = try Slabs.pebble(recipe)
    let results = Mutex(
      Array(repeating: Result<String, any Error>.success(""), count: questions.count))
    let lanes = Slabs.pool.threadCount
    // Products within run on their own thread alone while this loop has the pool.
    model.pool.parallelFor(lanes) { lane in
      for index in stride(from: lane, to: questions.count, by: lanes) {
        let answer = Result { try Self.answer(questions[index].question, model, activations) }
        results.withLock { $0[index] = answer }
      }
    }
    return try results.withLock { $0 }.map { try $0.get() }
  }

  private static func answer(
    _ question: String, _ model: Model, _ activations: ActivationPrecision
  ) throws -> String {
    let session = try Session(model: model, contextLength: 512, activations: activations)
    let prompt = try model.prompt(for: question)
    var options = GenerationOptions()
    options.temperature = 0
    options.maxTokens = 128
    var generator = try Generator(
      session: session, prompt: try model.tokenizer!.encode(prompt), options: options)
    var answer = ""
    while let event = try generator.next() {
      if case .text(let text) = event { answer += text }
    }
    return answer
  }

  /// At least 97 % of the bf16 model's score, in each set.
  @Test(arguments: [Recipe.q4, .q8]) func exactMatches(recipe: Recipe) throws {
    let questions = try Self.questions()
    let answers = try answers(questions, recipe, .int8)
    for set in ["seen", "paraphrase"] {
      let pairs = zip(questions, answers).filter { $0.0.set == set }
      let score = pairs.count { $0.answer == $1 }
      let reference = pairs.count { question, _ in question.answer == question.reference }
      print("questions \(recipe) \(set): \(score), bf16 \(reference), of \(pairs.count)")
      #expect(reference > 100)
      #expect(Double(score) >= 0.97 * Double(reference))
    }
  }

  @Test func bf16AnswersAreTheReference() throws {
    let some = try Self.questions().enumerated().filter { $0.offset % 16 == 0 }.map(\.element)
    #expect(try answers(some, .bf16, .f32) == some.map(\.reference))
  }
}
