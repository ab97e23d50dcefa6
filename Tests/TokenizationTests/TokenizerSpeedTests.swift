import Foundation
import TestSupport
import Testing
import Tokenization

/// Prints how fast tokenizers are. The bounds leave room for a busy machine: they notice time that
/// grows with the square of the text, not a few percent.
@Suite(.serialized) struct TokenizerSpeedTests {
  /// Runs `body` some times, prints the best time, and expects it to be at most `bound` seconds.
  static func measure<R>(
    _ what: String, bytes: Int, times: Int = 3, atMost bound: Double, _ body: () throws -> R
  ) rethrows -> R {
    var result: R?
    var best = Duration.seconds(1000)
    for _ in 0..<times {
      best = min(best, try ContinuousClock().measure { result = try body() })
    }
    let seconds = best / .seconds(1)
    let rate = Double(bytes) / seconds / 1e6
    print(
      "tokenizer speed: \(what): \(String(format: "%.4f s, %.1f MB/s", seconds, rate))")
    #expect(seconds <= bound, "\(what)")
    return result!
  }

  @Test(.enabled(if: Place.shared != nil, "needs ../shared"))
  func granite41() throws {
    let shared = try #require(Place.shared)
    let path = "granite/tokenizers/granite-4.1-3b_SHA-verified/tokenizer.json"
    let json = try Array(Data(contentsOf: shared.appending(path: path)))
    let tokenizer = try Self.measure("load 4.1", bytes: json.count, atMost: 0.6) {
      try Tokenizer(json: json)
    }
    #expect(tokenizer.vocabularySize == 100_352)
    let text = try Array(Data(contentsOf: shared.appending(path: "data/wikitext-2-test.txt")))
    let ids = try Self.measure(
      "encode English", bytes: text.count, atMost: Double(text.count) / 1.5e6
    ) {
      try tokenizer.encode(utf8: text)
    }
    let decoded = try Self.measure(
      "decode English", bytes: text.count, atMost: Double(text.count) / 1.5e6
    ) {
      try tokenizer.decode(ids)
    }
    #expect(Array(decoded.utf8) == text)
  }

  /// Words without end: the time must grow about as fast as the text.
  @Test(arguments: ["a", " ", "\n", "1", "ab", "漢", " \n", "!", "<|pad|>"])
  func longRuns(_ unit: String) throws {
    for kind in ["digits", "split"] {
      let directory = Place.goldens.appending(path: "tokenizers/\(kind)")
      let tokenizer = try TokenizerGoldenTests.tokenizer(directory)
      for size in [100_000, 1_000_000] {
        let text = Array(String(repeating: unit, count: size / unit.utf8.count).utf8)
        let what = "\(kind), \(size) bytes of \(unit.debugDescription)"
        let ids = try Self.measure(what, bytes: text.count, times: 1, atMost: 5) {
          try tokenizer.encode(utf8: text)
        }
        #expect(try Array(tokenizer.decode(ids).utf8) == text)
      }
    }
  }
}
