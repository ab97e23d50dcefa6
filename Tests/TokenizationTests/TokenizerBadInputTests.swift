import Foundation
import JSON
import TestSupport
import Testing
import Tokenization

/// Documents that are no tokenizer.json, or one that is not executed here.
@Suite struct TokenizerBadInputTests {
  /// A whole document in few bytes.
  static let document = """
    {"version": "1.0", "truncation": null, "padding": null, "added_tokens": [
      {"id": 6, "content": "<é>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": true}],
     "normalizer": null,
     "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Digits", "individual_digits": true},
      {"type": "Split", "pattern": {"Regex": "\\\\s+|\\\\w+"}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
     "post_processor": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"},
     "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
      "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ã": 4, "©": 5}, "merges": [["a", "b"], ["Ã", "©"]]}}
    """.replacingOccurrences(of: "[\"Ã\", \"©\"]", with: "[\"a\", \"b\"]")

  static func read(_ text: String) throws -> Tokenizer { try Tokenizer(json: Array(text.utf8)) }

  @Test func theDocumentItselfIsGood() throws {
    let tokenizer = try Self.read(Self.document)
    #expect(try tokenizer.encode("ab<é>b é") == [2, 6, 1, 3, 4, 5])
  }

  /// As transformers 5 writes a tokenizer that had no post-processor.
  @Test func aTemplateOfTheTextAloneAddsNothing() throws {
    let tokenizer = try Self.read(
      Self.document.replacingOccurrences(
        of: "\"post_processor\": {\"type\": \"ByteLevel\"}",
        with: """
          "post_processor": {"type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {}}
          """))
    #expect(try tokenizer.encode("ab<é>b é") == [2, 6, 1, 3, 4, 5])
  }

  /// What is replaced in the document, by what, and what the error must say.
  static let cases: [(String, String, String)] = [
    ("\"1.0\"", "\"2.0\"", "version \"2.0\" is not supported"),
    ("\"1.0\"", "1", "version 1 is not supported"),
    ("\"version\"", "\"vers\"", "key \"vers\" is not supported"),
    ("\"padding\"", "\"version\"", "\"version\" occurs twice"),
    (
      "\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}",
      "normalizer NFC is not supported"
    ),
    ("\"Digits\"", "\"Metaspace\"", "pretokenizers[0] Metaspace is not supported"),
    ("{\"type\": \"Digits\",", "{", "pretokenizers[0] without a type is not supported"),
    ("\"individual_digits\": true", "\"digits\": true", "individual_digits is missing"),
    ("\"individual_digits\": true", "\"individual_digits\": 1", "is a whole number"),
    ("\"Isolated\"", "\"Mixed\"", "behavior Mixed is not supported"),
    (", \"invert\": false", "", "invert is missing"),
    ("\"Regex\"", "\"Glob\"", "pattern Glob is not supported"),
    ("{\"Regex\": ", "{\"String\": \"a\", \"Regex\": ", "neither a Regex nor a String"),
    ("\\\\s+|", "(", "does not compile"), ("\\\\s+|", "\\\\h", "\\h in the pattern"),
    ("\\\\s+|", "[a&&b]", "&& in the pattern"), ("\\\\s+|", "[a[b]]", "a bracket within brackets"),
    ("\\\\s+|", "(?m:.)", "(?m) in the pattern"), ("\\\\s+|", "a(?i)b|", "(?i) within a pattern"),
    ("\\\\s+|", "a{1,2}+", "+ after an interval"), ("\\\\s+|", "(*UCP)", "(* in the pattern"),
    ("\\\\s+|", "[\\\\W]", "\\W in the pattern"), ("\\\\s+|", "\\\\u12", "\\u in the pattern"),
    ("\\\\s+|", "\\\\C", "does not compile"), ("\\\\s+|", "\\\\p{Nope}", "does not compile"),
    ("\\\\s+|", String(repeating: "a", count: 70000), "longer than 65536 bytes"),
    ("\\\\s+|", String(repeating: "(", count: 5000), "does not compile"),
    ("\\\\s+|", "(((a{1000}){1000}){1000})", "does not compile"),
    (
      "\"ByteLevel\", \"add_prefix_space\"", "\"Digits\", \"add_prefix_space\"", "without ByteLevel"
    ),
    ("\"Digits\", ", "\"ByteLevel\", ", "ByteLevel before another component"),
    ("\"add_prefix_space\": false, ", "", "add_prefix_space is missing"),
    ("\"use_regex\": true", "\"use_regex\": null", "use_regex: is null"),
    ("\"pretokenizers\"", "\"tokenizers\"", "pretokenizers is missing"),
    (
      "\"post_processor\": {\"type\": \"ByteLevel\"}",
      "\"post_processor\": {\"type\": \"TemplateProcessing\"}",
      "post_processor TemplateProcessing is not supported"
    ),
    (
      "\"post_processor\": {\"type\": \"ByteLevel\"}",
      """
      "post_processor": {"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<é>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}
      """,
      "post_processor TemplateProcessing is not supported"
    ),
    (
      "\"decoder\": {\"type\": \"ByteLevel\"}", "\"decoder\": {\"type\": \"WordPiece\"}",
      "decoder WordPiece is not supported"
    ),
    ("\"BPE\"", "\"WordPiece\"", "model.type \"WordPiece\" is not supported"),
    ("\"type\": \"BPE\", ", "", "model.type is missing"),
    ("\"dropout\": null", "\"dropout\": 0.1", "model.dropout 0.1 is not supported"),
    ("\"unk_token\": null", "\"unk_token\": \"a\"", "model.unk_token \"a\" is not supported"),
    ("subword_prefix\": \"\"", "subword_prefix\": \"##\"", "continuing_subword_prefix \"##\""),
    ("\"byte_fallback\": false", "\"byte_fallback\": true", "model.byte_fallback true"),
    ("\"ignore_merges\": false", "\"ignore_merges\": true", "model.ignore_merges true"),
    ("\"fuse_unk\"", "\"fuse\"", "model.fuse is not supported"),
    ("\"fuse_unk\": false", "\"type\": \"BPE\"", "\"type\" occurs twice"),
    ("\"vocab\": {\"a\": 0", "\"vocab\": {\"a\": -1", "negative"),
    ("\"vocab\": {\"a\": 0", "\"vocab\": {\"a\": 1", "which another piece has too"),
    ("\"vocab\": {\"a\": 0", "\"vocab\": {\"a\": 7", "without a hole"),
    ("\"vocab\": {\"a\": 0", "\"vocab\": {\"a\": 9223372036854775807", "without a hole"),
    ("\"vocab\": {\"a\": 0", "\"vocab\": {\"a\": 99999999999999999999", "whole number"),
    ("\"vocab\": {\"a\": 0", "\"vocab\": {\"a\": 0.5", "whole number"),
    ("\"vocab\": {\"a\": 0", "\"vocab\": {\"a\": null", "expected a number"),
    ("\"b\": 1", "\"a\": 1", "\"a\" occurs more than once"),
    ("\"b\": 1", "\"\": 1", "is empty"),
    ("\"©\": 5", "\"<é>\": 5", "\"<é>\" occurs more than once"),
    ("\"vocab\": {", "\"vocab\": {}, \"vocabulary\": {", "model.vocabulary is not supported"),
    ("[\"a\", \"b\"]", "[\"a\", \"c\"]", "model.merges[0]: \"ac\" is not in the vocabulary"),
    ("[\"a\", \"b\"]", "[\"b\", \"a\"]", "\"ba\" is not in the vocabulary"),
    ("[[\"a\", \"b\"]", "[[\"\", \"ab\"]", "\"\" is not in the vocabulary"),
    ("[\"a\", \"b\"]", "[\"a\"]", "not a pair of pieces"),
    ("[\"a\", \"b\"]", "[\"a\", \"b\", \"b\"]", "not a pair of pieces"),
    ("[[\"a\", \"b\"]", "[\"a b\"", "not a pair of pieces"),
    ("[[\"a\", \"b\"], [\"a\", \"b\"]", "[\"a b c\"", "not a pair of pieces"),
    ("[[\"a\", \"b\"], [\"a\", \"b\"]", "[\"ab\"", "not a pair of pieces"),
    ("[[\"a\", \"b\"]", "[7", "not a pair of pieces"),
    ("\"id\": 6", "\"id\": 7", "has id 7, the next one is 6"),
    ("\"id\": 6", "\"id\": 4", "has id 4, which is \"Ã\""),
    ("\"id\": 6", "\"id\": -6", "-6 is no token id"),
    ("\"id\": 6", "\"id\": 4294967302", "4294967302 is no token id"),
    ("\"id\": 6", "\"id\": 2147483647", "the next one is 6"),
    ("\"id\": 6", "\"id\": \"6\"", "added_tokens[0].id: is a string"),
    ("\"id\": 6, ", "", "added_tokens[0].id is missing"),
    ("\"<é>\"", "\"\"", "has 0 bytes"),
    ("\"<é>\"", "\"\(String(repeating: "x", count: 1025))\"", "has 1025 bytes"),
    ("\"special\": true}", "\"special\": true}, 5", "added_tokens[1]: is a whole number"),
    ("\"lstrip\": false, ", "", "added_tokens[0].lstrip is missing"),
    ("\"content\"", "\"id\"", "duplicate key"),
  ]

  @Test(arguments: cases)
  func refuses(_ old: String, _ new: String, _ words: String) throws {
    let start = try #require(Self.document.range(of: old), "the document has no \(old)")
    let text = Self.document.replacingCharacters(in: start, with: new)
    let error = #expect(throws: TokenizerError.self) { try Self.read(text) }
    let description = error.map { "\($0)" } ?? ""
    #expect(description.contains(words), "\(description)")
  }

  @Test(arguments: [
    ("", "unexpected end"), ("[]", "expected an object"), ("{}", "model is missing"),
    ("{\"model\": {}}", "model.type is missing"),
    ("{\"model\": {\"type\": \"BPE\"}}", "model.vocab is missing"),
    ("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}}}", "pre_tokenizer is missing"),
    ("{\"pre_tokenizer\": null}", "pre_tokenizer null is not supported"),
    ("{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": []}}", "is empty"),
    ("{\"added_tokens\": {}}", "expected an array"),
  ])
  func refusesDocument(_ text: String, _ words: String) {
    let error = #expect(throws: TokenizerError.self) { try Self.read(text) }
    let description = error.map { "\($0)" } ?? ""
    #expect(description.contains(words), "\(description)")
  }

  @Test func refusesTooManySteps() {
    let step = "{\"type\": \"Digits\", \"individual_digits\": true},"
    let text = Self.document.replacing(step, with: String(repeating: step, count: 100))
    let error = #expect(throws: TokenizerError.self) { try Self.read(text) }
    #expect(error.map { "\($0)" }?.contains("102 components") == true)
  }

  @Test func refusesEveryTruncation() throws {
    let bytes = Array(Self.document.utf8)
    for count in 0..<bytes.count {
      #expect(throws: TokenizerError.self) { try Tokenizer(json: Array(bytes[..<count])) }
    }
  }

  /// A flipped byte is refused with a typed error or gives another tokenizer, which works.
  @Test func flippedBytesNeverTrap() throws {
    let golden = Place.goldens.appending(path: "tokenizers/split/tokenizer.json")
    let large = try Array(Data(contentsOf: golden))
    var generator = SplitMix64(seed: 6)
    var refused = 0
    for (bytes, rounds) in [(Array(Self.document.utf8), 20000), (large, 500)] {
      for _ in 0..<rounds {
        var bytes = bytes
        for _ in 0...Int.random(in: 0..<3, using: &generator) {
          let at = Int.random(in: 0..<bytes.count, using: &generator)
          bytes[at] = UInt8.random(in: 0...255, using: &generator)
        }
        do {
          let tokenizer = try Tokenizer(json: bytes)
          let ids = try tokenizer.encode("a b ab12 <é>é\n<tool_call>  stone")
          _ = try tokenizer.decode(ids)
        } catch is TokenizerError {
          refused += 1
        }
      }
    }
    #expect(refused > 5000)
  }

  /// Patterns that backtrack without end are given up with an error.
  @Test(arguments: ["(?:a|aa)+$", "(?:(a)|(aa)|(aaa))+$", "^(?:a+)+$"])
  func givesUpMatching(_ pattern: String) throws {
    let text = Self.document.replacing("\\\\s+|\\\\w+", with: pattern)
    let tokenizer = try Self.read(text)
    let hostile = String(repeating: "a", count: 60) + "c"
    #expect(throws: TokenizerError.matchFailed(reason: "match limit exceeded", offset: 0)) {
      try tokenizer.encode(hostile)
    }
    // Matching stays possible afterwards.
    #expect(try tokenizer.encode("a") == [0])
  }
}
