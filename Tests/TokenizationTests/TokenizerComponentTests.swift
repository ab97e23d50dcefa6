import Foundation
import JSON
import TestSupport
import Testing

@testable import Tokenization

/// Single components against Hugging Face's tokenizers (tools/make_components.py).
@Suite struct TokenizerComponentTests {
  static let goldens = Place.goldens

  static func read(_ path: String) throws -> JSONValue {
    try JSONValue(parsing: Array(Data(contentsOf: goldens.appending(path: path))))
  }

  /// The small tokenizer of the goldens with some members replaced.
  static func tokenizer(_ members: [(key: String, value: JSONValue)]) throws -> Tokenizer {
    var object = try #require(read("tokenizers/digits/tokenizer.json").object)
    for member in members { object[member.key] = member.value }
    return try Tokenizer(json: Array(JSONValue.object(object).serialized().utf8))
  }

  static func strings(_ value: JSONValue?) throws -> [String] {
    try #require(value?.array).map { try #require($0.string) }
  }

  /// The words that the pre-tokenizer makes of a text, in the byte-level alphabet.
  static func words(_ tokenizer: Tokenizer, _ text: String) throws -> [String] {
    var bytes = Array(text.utf8)
    let whole = bytes.isEmpty ? [] : [PreTokenizer.Part(range: 0..<bytes.count)]
    return try tokenizer.preTokenizer.split(&bytes, whole).map { part in
      var word = ""
      for byte in bytes[part.range] {
        word.unicodeScalars.append(ByteAlphabet.scalars[Int(byte)])
      }
      return word
    }
  }

  @Test func cutsWordsAsHuggingFace() throws {
    let cases = try #require(Self.read("components/pretokenizers.json").array)
    #expect(cases.count > 50)
    for golden in cases {
      let component = try #require(golden["pre_tokenizer"])
      let tokenizer = try Self.tokenizer([("pre_tokenizer", component)])
      let words = try #require(golden["words"]?.array)
      for (text, words) in zip(try Self.strings(golden["texts"]), words) {
        #expect(
          try Self.words(tokenizer, text).map { Array($0.utf8) }
            == Self.strings(words).map { Array($0.utf8) },
          "\(text.debugDescription) with \(component.serialized())")
      }
    }
  }

  @Test func matchesAddedTokensAsHuggingFace() throws {
    let cases = try #require(Self.read("components/added_tokens.json").array)
    #expect(cases.count > 20)
    for golden in cases {
      let added = try #require(golden["added_tokens"])
      let tokenizer = try Self.tokenizer([
        ("added_tokens", added), ("decoder", try #require(golden["decoder"])),
      ])
      let decoded = try Self.strings(golden["decoded"])
      let visible = try Self.strings(golden["visible"])
      for (index, text) in try Self.strings(golden["texts"]).enumerated() {
        let ids = try #require(golden["ids"]?.array?[index].array)
          .map { TokenID(try #require($0.integer)) }
        let context = "\(text.debugDescription) with \(added.serialized())"
        #expect(try tokenizer.encode(text) == ids, "\(context)")
        #expect(try Array(tokenizer.decode(ids).utf8) == Array(decoded[index].utf8), "\(context)")
        #expect(
          try Array(tokenizer.decode(ids, skipSpecialTokens: true).utf8)
            == Array(visible[index].utf8), "\(context)")
      }
    }
  }

  @Test func tellsAboutTokens() throws {
    let tokenizer = try Self.tokenizer([])
    let id = try #require(tokenizer.id(of: "Ġstone"))
    #expect(tokenizer.piece(id) == "Ġstone")
    #expect(tokenizer.bytes(of: id) == Array(" stone".utf8))
    #expect(!tokenizer.isSpecial(id))
    let added = try #require(tokenizer.addedTokens.first { $0.content == "<two words>" })
    #expect(!added.special)
    #expect(tokenizer.bytes(of: added.id) == Array("<two words>".utf8))
    #expect(tokenizer.id(of: "<two words>") == added.id)
    let padding = try #require(tokenizer.id(of: "<|pad|>"))
    #expect(tokenizer.isSpecial(padding))
    #expect(padding == tokenizer.addedTokens.map(\.id).max())
    for id in [-1, TokenID(tokenizer.vocabularySize), .max, .min] {
      #expect(tokenizer.piece(id) == nil)
      #expect(tokenizer.bytes(of: id) == nil)
      #expect(!tokenizer.isSpecial(id))
      #expect(throws: TokenizerError.unknownID(id, vocabularySize: tokenizer.vocabularySize)) {
        try tokenizer.decode([0, id])
      }
    }
    #expect(tokenizer.id(of: "no such piece") == nil)
    #expect(tokenizer.id(of: "") == nil)
  }

  /// Spellings are compared byte by byte: "é" composed and decomposed are different pieces.
  @Test func spellingsAreBytes() throws {
    var object = try #require(Self.read("tokenizers/digits/tokenizer.json").object)
    let model = try #require(object["model"]?.object)
    var vocabulary = try #require(model["vocab"]?.object)
    let count = vocabulary.count
    vocabulary["<\u{e9}>"] = .integer(count)
    vocabulary["<e\u{301}>"] = .integer(count + 1)
    var newModel = model
    newModel["vocab"] = .object(vocabulary)
    object["model"] = .object(newModel)
    object["added_tokens"] = .array([])
    let tokenizer = try Tokenizer(json: Array(JSONValue.object(object).serialized().utf8))
    #expect(tokenizer.id(of: "<\u{e9}>") == TokenID(count))
    #expect(tokenizer.id(of: "<e\u{301}>") == TokenID(count + 1))
  }

  @Test func refusesTextThatIsNotUTF8() throws {
    let tokenizer = try Self.tokenizer([])
    for (bytes, offset) in [
      ([0x61, 0xFF], 1), ([0xC3], 0), ([0x61, 0x62, 0xED, 0xA0, 0x80], 2), ([0xC0, 0x80], 0),
      ([0xE2, 0x82, 0xAC, 0xE2, 0x82], 3), ([0x80], 0),
    ] as [([UInt8], Int)] {
      #expect(throws: TokenizerError.invalidUTF8(offset: offset)) {
        try tokenizer.encode(utf8: bytes)
      }
    }
    #expect(try tokenizer.encode(utf8: Array("é".utf8)) == tokenizer.encode("é"))
  }

  @Test func threadsShareATokenizer() async throws {
    let tokenizer = try Self.tokenizer([])
    let text = String(
      decoding: try Data(
        contentsOf: Self.goldens.appending(
          path: "text/quarry-handbook.txt")), as: UTF8.self)
    let expected = try tokenizer.encode(text)
    try await withThrowingTaskGroup(of: [TokenID].self) { group in
      for _ in 0..<8 { group.addTask { try tokenizer.encode(text) } }
      for try await ids in group { #expect(ids == expected) }
    }
    #expect(try tokenizer.decode(expected) == text)
  }
}
