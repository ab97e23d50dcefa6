import JSON
import TensorCore
import TestSupport
import Testing

@testable import Inference

@Suite struct EvaluationTests {
  private let pool = WorkerPool(threadCount: 2)
  private let log2: Float = 0.693_147_2

  /// Reference 1/2, 1/4, 1/4 and model 1/4, 1/2, 1/4: the divergence is ½ ln 2 − ¼ ln 2 = ¼ ln 2. The
  /// second row is the same in both, and shifted.
  @Test func divergenceByHand() throws {
    var comparison = LogitsComparison(windowLength: 2)
    comparison.add(
      [0, log2, 0, 5, 6, 7], reference: [log2, 0, 0, 0, 1, 2], next: [2, 2], pool: pool)
    let result = try #require(comparison.divergence)
    let expected = 0.25 * 0.693_147_180_56
    #expect(abs(result.mean.mean - expected / 2) < 1e-7)
    // Of two values a and 0: deviation a / √2, over √2.
    #expect(abs(result.mean.standardError - expected / 2) < 1e-7)
    #expect(result.mean.windowStandardError == nil)
    #expect(abs(result.maximum - expected) < 1e-7 && result.percentile99 == result.maximum)
    #expect(result.median < 1e-12)
    #expect(result.top1Agreement.mean == 0.5 && result.top1Agreement.standardError == 0.5)
    // Both give token 2 a quarter, then e² / (1 + e + e²).
    let loss = 0.5 * (2 * 0.693_147_180_56 + 0.407_605_964_44)
    #expect(abs(comparison.perplexity.loss.mean - loss) < 1e-7)
    #expect(abs(result.referencePerplexity.loss.mean - loss) < 1e-7)
    #expect(abs(result.logPerplexityRatio.mean) < 1e-7)
  }

  @Test func lossesWithoutAReference() {
    var comparison = LogitsComparison(windowLength: 1)
    comparison.add([log2, 0, 0], reference: nil, next: [1], pool: pool)
    comparison.add([0, 0, 0], reference: nil, next: [1], pool: pool)
    let perplexity = comparison.perplexity
    // A quarter and a third: the geometric mean of 4 and 3.
    #expect(abs(perplexity.value - 12.0.squareRoot()) < 1e-6)
    // Losses ln 4 and ln 3: half their difference, with tokens and windows the same.
    let error = 0.5 * 0.287_682_072_45
    #expect(abs(perplexity.loss.standardError - error) < 1e-7)
    #expect(abs(perplexity.standardError - error * perplexity.value) < 1e-6)
    #expect(perplexity.windowStandardError == perplexity.standardError)
    #expect(comparison.divergence == nil)
    #expect(comparison.windows.map(\.reference) == [nil, nil])
  }

  /// Windows of two: the mean of all is 3; deviations −2, 0, −1, 3 square to 14, so that the error
  /// over tokens is √(14 / 3 / 4). Windows have the means 2 and 4, and the error 1.
  @Test func estimateByHand() {
    let estimate = Estimate([1, 3, 2, 6], windowLength: 2)
    #expect(estimate.mean == 3)
    #expect(estimate.standardError == (14.0 / 3 / 4).squareRoot())
    #expect(estimate.windowStandardError == 1)
    #expect(Estimate.windowMeans([1, 3, 2, 6], windowLength: 2) == [2, 4])
    #expect(Estimate([5], windowLength: 1).standardError == 0)
    #expect(Estimate([], windowLength: 1).mean == 0)
  }

  @Test func percentilesAreNearestRanks() {
    let values = (1...200).map(Double.init)
    #expect(values.percentile(99) == 198 && values.percentile(50) == 100)
    #expect([1.0, 2, 3].percentile(50) == 2 && [1.0, 2, 3].percentile(99) == 3)
    #expect([7.0].percentile(0) == 7 && [Double]().percentile(50) == 0)
  }

  @Test func perplexityOfAUniformModel() throws {
    // A scripted model without certainty: every token has one chance in eleven.
    let session = try Session(model: ScriptedModel.make(certainty: 0))
    let result = try Evaluation(
      of: session, on: TokenWindows([1, 5, 2, 7, 3, 3, 1], length: 3, skip: 0))
    // Two windows of three, of which two tokens each are predicted; one is left over.
    #expect(result.tokenCount == 4)
    #expect(abs(result.perplexity.value - 11) < 1e-9)
    #expect(result.perplexity.standardError < 1e-12)
    #expect(result.windows.count == 2 && result.divergence == nil && result.layers.isEmpty)
  }

  /// Only predictions that are scored count: the model is sure that 0 follows 5, which is wrong in the
  /// first half of the window, and right about all others.
  @Test func scoresThePositionsThatItSays() throws {
    let session = try Session(model: ScriptedModel.make(certainty: 32))
    let text: [Int32] = [1, 5, 2, 3, 4, 5]
    let half = try Evaluation(of: session, on: TokenWindows(text, length: 6))
    #expect(half.tokenCount == 2 && half.perplexity.loss.mean < 1e-9)
    let all = try Evaluation(of: session, on: TokenWindows(text, length: 6, skip: 0))
    #expect(all.tokenCount == 5 && abs(all.perplexity.loss.mean - 32.0 * 2 / 5) < 1e-3)
  }

  @Test func aModelIsNoDistanceFromItself() throws {
    let model = try TinyModel(encodings: [.q4b32]).model()
    let windows = TokenWindows(randomTokens(230), length: 100)
    let whole = try Evaluation(of: Session(model: model), on: windows)
    #expect(whole.tokenCount == 98)
    // Neither the reference nor the cut into chunks changes any bit.
    let compared = try Evaluation(
      of: Session(model: model, chunkLength: 7), reference: Session(model: model), on: windows,
      comparingLayers: true)
    let divergence = try #require(compared.divergence)
    #expect(compared.perplexity == whole.perplexity)
    #expect(divergence.mean.mean == 0 && divergence.maximum == 0)
    #expect(divergence.top1Agreement.mean == 1 && divergence.logPerplexityRatio.mean == 0)
    #expect(divergence.referencePerplexity == whole.perplexity)
    #expect(compared.layers == (0...2).map { .init(depth: $0, cosine: 1, relativeError: 0) })
    for (window, alone) in zip(compared.windows, whole.windows) {
      #expect(window.loss == alone.loss && window.reference?.loss == alone.loss)
    }
  }

  /// A model whose second layer alone differs is the same up to there.
  @Test func damageShowsWhereItEnters() throws {
    let reference = try TinyModel()
    var damaged = reference
    let name = "model.layers.1.mlp.down_proj.weight"
    damaged.matrices[name] = .packed(reference.matrices[name]!.geometry) { _, _ in 0.01 }
    let result = try Evaluation(
      of: Session(model: damaged.model()), reference: Session(model: reference.model()),
      on: TokenWindows(randomTokens(60), length: 30), comparingLayers: true)
    #expect(result.layers.map(\.depth) == [0, 1, 2])
    #expect(result.layers.dropLast().allSatisfy { $0.cosine == 1 && $0.relativeError == 0 })
    let last = try #require(result.layers.last)
    #expect(last.cosine < 0.99 && last.relativeError > 0.1)
    #expect(try #require(result.divergence).mean.mean > 0)
    #expect(result.windows.allSatisfy { $0.reference!.divergence > 0 })
  }

  @Test func hiddenStatesByHand() {
    func compare(_ a: [Float], _ b: [Float]) -> (cosine: Double, relativeError: Double) {
      LayerComparison.compare(a, b, a.count)
    }
    #expect(compare([3, 4], [3, 4]) == (1, 0))
    #expect(compare([3, 4], [-4, 3]) == (0, 2.0.squareRoot()))
    #expect(compare([3, 4], [6, 8]) == (1, 1))
    #expect(compare([3, 4], [0, 0]) == (0, 1))
    #expect(compare([0, 0], [1, 0]) == (0, 1))
    #expect(compare([0, 0], [0, 0]) == (1, 0))
  }

  @Test func differentModelsCannotBeCompared() throws {
    let windows = TokenWindows([1, 2, 3], length: 3)
    let a = try Session(model: TinyModel().model())
    let b = try Session(model: TinyModel(["vocab_size": 300]).model())
    #expect(throws: InferenceError.vocabularies(300, 307)) {
      try Evaluation(of: a, reference: b, on: windows)
    }
    let c = try Session(model: TinyModel(["num_hidden_layers": 1]).model())
    #expect(throws: InferenceError.layers([1, 40], [2, 40])) {
      try Evaluation(of: a, reference: c, on: windows, comparingLayers: true)
    }
    #expect(try Evaluation(of: a, reference: c, on: windows).divergence!.mean.mean > 0)
  }

  @Test func windows() {
    let tokens = Array<Int32>(0..<10)
    let four = TokenWindows(tokens, length: 4)
    #expect(four.windows.map(Array.init) == [[0, 1, 2, 3], [4, 5, 6, 7]])
    #expect(four.skip == 2 && four.scoredPerWindow == 1 && four.scoredCount == 2)
    #expect(TokenWindows(tokens, length: 4, limit: 1).windows.map(Array.init) == [[0, 1, 2, 3]])
    #expect(TokenWindows(tokens, length: 20).windows.isEmpty)
    // As llama.cpp's perplexity tool.
    #expect(TokenWindows([], length: 512).scoredPerWindow == 255)
    #expect(TokenWindows(tokens, length: 2).scoredPerWindow == 1)
    #expect(TokenWindows(tokens, length: 3).scoredPerWindow == 1)
  }

  @Test func tellsHowFarItIs() throws {
    let session = try Session(model: ScriptedModel.make(certainty: 0))
    var seen: [Evaluation.Progress] = []
    _ = try Evaluation(of: session, on: TokenWindows([1, 2, 3, 4, 5, 6, 7], length: 3)) {
      seen.append($0)
    }
    #expect(seen.map(\.doneCount) == [1, 2, 3, 4, 5, 6])
    #expect(seen.allSatisfy { $0.totalCount == 6 && $0.divergence == nil })
    #expect(seen[0].loss == nil && abs(seen[5].loss! - 2.397_895_272_8) < 1e-9)
  }
}
