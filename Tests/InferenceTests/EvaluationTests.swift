import JSON
import TensorCore
import Testing

@testable import Inference

@Suite struct EvaluationTests {
  private let pool = WorkerPool(threadCount: 2)
  private let log2: Float = 0.693_147_2

  /// Reference 1/2, 1/4, 1/4 and candidate 1/4, 1/2, 1/4:
  /// ½ ln 2 − ¼ ln 2 = ¼ ln 2. The second row is the same in both, and shifted.
  @Test func divergenceByHand() {
    var comparison = LogitsComparison()
    comparison.add(
      reference: [log2, 0, 0, 0, 1, 2], candidate: [0, log2, 0, 5, 6, 7], rows: 2, next: [2],
      pool: pool)
    let result = comparison.result
    let expected = 0.25 * 0.693_147_180_56
    #expect(result.tokenCount == 2)
    #expect(abs(result.mean - expected / 2) < 1e-7)
    // Of two values a and 0: deviation a / √2, over √2.
    #expect(abs(result.standardError - expected / 2) < 1e-7)
    #expect(abs(result.percentile99 - expected) < 1e-7)
    #expect(result.top1Agreement == 0.5)
    // Both give token 2 a quarter.
    #expect(abs(result.referencePerplexity.value - 4) < 1e-6)
    #expect(abs(result.candidatePerplexity.value - 4) < 1e-6)
    #expect(result.candidatePerplexity.tokenCount == 1)
  }

  @Test func percentileIsTheNearestRank() {
    var comparison = LogitsComparison()
    // 200 rows whose divergence grows: the 198th is reported.
    let reference = [Float](repeating: 0, count: 400)
    let candidate = (0..<200).map { [Float($0) / 100, 0] }.reduce([], +)
    comparison.add(reference: reference, candidate: candidate, rows: 200, next: [], pool: pool)
    var one = LogitsComparison()
    one.add(reference: [0, 0], candidate: [1.97, 0], rows: 1, next: [], pool: pool)
    #expect(comparison.result.percentile99 == one.result.mean)
  }

  @Test func perplexityOfAUniformModel() throws {
    // A scripted model without certainty: every token has one chance in eleven.
    let session = try Session(model: ScriptedModel.make(certainty: 0))
    let result = try Perplexity.evaluate(session, tokens: [1, 5, 2, 7, 3, 3, 1], windowLength: 3)
    // Two windows of three, of which two tokens each are predicted; one is left over.
    #expect(result.tokenCount == 4)
    #expect(abs(result.value - 11) < 1e-9)
    #expect(result.standardError < 1e-12)
  }

  @Test func perplexityIsTheSameHoweverItIsComputed() throws {
    let model = try TinyModel(encodings: [.q4b32]).model()
    let tokens = randomTokens(200)
    let whole = try Perplexity.evaluate(Session(model: model), tokens: tokens, windowLength: 100)
    let cut = try Perplexity.evaluate(
      Session(model: model, chunkLength: 7), tokens: tokens, windowLength: 100)
    #expect(whole == cut)
    #expect(whole.tokenCount == 198)
    let divergence = try Divergence.evaluate(
      Session(model: model), reference: Session(model: model), tokens: tokens, windowLength: 100)
    #expect(divergence.mean == 0 && divergence.top1Agreement == 1)
    #expect(divergence.referencePerplexity == whole)
    #expect(divergence.tokenCount == 200)
  }

  @Test func differentVocabulariesCannotBeCompared() throws {
    let a = try Session(model: TinyModel().model())
    let b = try Session(model: TinyModel(["vocab_size": 300]).model())
    #expect(throws: InferenceError.vocabularies(300, 307)) {
      try Divergence.evaluate(a, reference: b, tokens: [1, 2, 3])
    }
  }

  @Test func windows() {
    let tokens = Array<Int32>(0..<10)
    #expect(tokenWindows(tokens, length: 4).map(Array.init) == [[0, 1, 2, 3], [4, 5, 6, 7]])
    #expect(tokenWindows(tokens, length: 20).map(Array.init) == [tokens])
    #expect(tokenWindows([], length: 4).isEmpty)
  }
}
