import JSON
import TestSupport
import Testing
import Tokenization

/// Decoding token by token against decoding at once.
@Suite struct TokenizerStreamTests {
  static func stream(
    _ tokenizer: Tokenizer, _ ids: [TokenID], skipSpecialTokens: Bool = false
  ) -> [String] {
    var decoder = StreamDecoder(tokenizer, skipSpecialTokens: skipSpecialTokens)
    let pushed = ids.map { decoder.push($0) }
    return pushed + [decoder.finish()]
  }

  /// Random ids: many tokens are parts of characters, most sequences are not UTF-8.
  @Test func joinsToTheDecodedText() throws {
    for decoder in [true, false] {
      let tokenizer = try TokenizerComponentTests.tokenizer(decoder ? [] : [("decoder", .null)])
      var generator = SplitMix64(seed: 7)
      let bytes = (0..<TokenID(tokenizer.vocabularySize)).filter {
        tokenizer.bytes(of: $0)?.count == 1
      }
      for round in 0..<3000 {
        let ids = (0..<Int.random(in: 0..<12, using: &generator)).map { _ in
          round % 2 == 0
            ? bytes.randomElement(using: &generator)!
            : TokenID.random(in: 0..<TokenID(tokenizer.vocabularySize), using: &generator)
        }
        for skip in [true, false] {
          let text = try tokenizer.decode(ids, skipSpecialTokens: skip)
          let parts = Self.stream(tokenizer, ids, skipSpecialTokens: skip)
          #expect(parts.flatMap { Array($0.utf8) } == Array(text.utf8), "\(ids)")
        }
      }
    }
  }

  /// Every character comes whole, with the token that completes it.
  @Test func emitsWholeCharacters() throws {
    let tokenizer = try TokenizerComponentTests.tokenizer([("added_tokens", .array([]))])
    let ids = Array("aé🦙漢b".utf8).map { byte in
      (0..<TokenID(tokenizer.vocabularySize)).first { tokenizer.bytes(of: $0) == [byte] }!
    }
    #expect(
      Self.stream(tokenizer, ids) == ["a", "", "é", "", "", "", "🦙", "", "", "漢", "b", ""])
    #expect(
      Self.stream(tokenizer, Array(ids[..<5])) == ["a", "", "é", "", "", "\u{FFFD}"])
    #expect(
      Self.stream(tokenizer, [ids[1], ids[0], ids[2]]) == ["", "\u{FFFD}a", "\u{FFFD}", ""])
  }

  /// The Unicode Standard's examples of U+FFFD for maximal subparts (section 3.9, tables 3-8 to
  /// 3-11), which is also what Rust's `from_utf8_lossy` does.
  @Test(
    arguments: [
      ([0xC0, 0xAF, 0xE0, 0x80, 0xBF, 0xF0, 0x81, 0x82, 0x41], "????????A"),
      ([0xED, 0xA0, 0x80, 0xED, 0xBF, 0xBF, 0xED, 0xAF, 0x41], "????????A"),
      ([0xF4, 0x91, 0x92, 0x93, 0xFF, 0x41, 0x80, 0xBF, 0x42], "?????A??B"),
      ([0xE1, 0x80, 0xE2, 0xF0, 0x91, 0x92, 0xF1, 0xBF, 0x41], "????A"),
    ] as [([UInt8], String)])
  func replacesMaximalSubparts(_ bytes: [UInt8], _ expected: String) throws {
    let tokenizer = try TokenizerComponentTests.tokenizer([("added_tokens", .array([]))])
    let ids = bytes.map { byte in
      (0..<TokenID(tokenizer.vocabularySize)).first { tokenizer.bytes(of: $0) == [byte] }!
    }
    let text = expected.replacing("?", with: "\u{FFFD}")
    #expect(try tokenizer.decode(ids) == text)
    #expect(Self.stream(tokenizer, ids).joined() == text)
  }

  /// Models may have more rows than the tokenizer has pieces.
  @Test func unknownIDsAddNothing() throws {
    let tokenizer = try TokenizerComponentTests.tokenizer([])
    let parts = Self.stream(tokenizer, [-1, TokenID(tokenizer.vocabularySize), .max, .min])
    #expect(parts == ["", "", "", "", ""])
  }
}
