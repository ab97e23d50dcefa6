import Foundation
import JSON
import TestSupport
import Testing
import Tokenization

/// Ids and texts against those of Hugging Face's tokenizers.
@Suite struct TokenizerGoldenTests {
  static let tokenizers = Place.shared?.appending(path: "granite/tokenizers")

  static func tokenizer(_ directory: URL) throws -> Tokenizer {
    try Tokenizer(json: Array(Data(contentsOf: directory.appending(path: "tokenizer.json"))))
  }

  /// Subdirectories that hold `file`.
  static func directories(of directory: URL, with file: String) throws -> [URL] {
    guard FileManager.default.fileExists(atPath: directory.path) else { return [] }
    return try FileManager.default.contentsOfDirectory(
      at: directory, includingPropertiesForKeys: nil
    ).filter { FileManager.default.fileExists(atPath: $0.appending(path: file).path) }
  }

  /// Compares with a file of `{"text", "ids"}`, perhaps with the texts that the ids decode to:
  /// `"decoded"` with special tokens, `"visible"` without.
  static func check(_ directory: URL, _ file: String) throws {
    let tokenizer = try tokenizer(directory)
    let url = directory.appending(path: file)
    let goldens = try #require(JSONValue(parsing: Array(Data(contentsOf: url))).array)
    #expect(goldens.count > 10)
    for golden in goldens {
      let text = try #require(golden["text"]?.string)
      let ids = try #require(golden["ids"]?.array).map { TokenID(try #require($0.integer)) }
      let decoded = golden["decoded"]?.string ?? text
      #expect(try tokenizer.encode(text) == ids, "\(text.debugDescription)")
      #expect(try Array(tokenizer.decode(ids).utf8) == Array(decoded.utf8))
      if let visible = golden["visible"]?.string {
        let text = try tokenizer.decode(ids, skipSpecialTokens: true)
        #expect(Array(text.utf8) == Array(visible.utf8))
      }
    }
  }

  @Test(.enabled(if: Place.shared != nil, "needs ../shared"))
  func equalsHuggingFaceOnGraniteTokenizers() throws {
    let file = "golden_tokenization.json"
    let directories = try Self.directories(of: #require(Self.tokenizers), with: file)
    #expect(directories.count >= 2)
    for directory in directories { try Self.check(directory, file) }
  }

  /// The 3.1 tokenizer is StarCoder's; these texts and ids are llama.cpp's.
  @Test(.enabled(if: Place.shared != nil, "needs ../shared"))
  func equalsTheStarCoderVectors() throws {
    let root = try #require(Self.tokenizers)
    let tokenizer = try Self.tokenizer(root.appending(path: "granite-3.1-base_SHA-verified"))
    let vectors = root.appending(path: "starcoder-vectors/ggml-vocab-refact.gguf")
    let input = try String(contentsOf: vectors.appendingPathExtension("inp"), encoding: .utf8)
    let output = try String(contentsOf: vectors.appendingPathExtension("out"), encoding: .utf8)
    var texts = input.components(separatedBy: "\n__ggml_vocab_test__\n")
    texts.removeLast()  // behind the last mark
    var lines = output.components(separatedBy: "\n")
    lines.removeLast(lines.last == "" ? 1 : 0)
    #expect(texts.count == lines.count && texts.count > 40)
    for (text, line) in zip(texts, lines) {
      let ids = line.split(separator: " ").compactMap { TokenID($0) }
      #expect(try tokenizer.encode(text) == ids, "\(text.debugDescription)")
    }
  }

  @Test func equalsHuggingFaceOnCommittedTokenizers() throws {
    let directories = try Self.directories(
      of: Place.goldens.appending(path: "tokenizers"), with: "golden.json")
    #expect(directories.count >= 2)
    for directory in directories { try Self.check(directory, "golden.json") }
  }

  @Test func executesTheBundledTokenizer() throws {
    let tokenizer = try Self.tokenizer(Place.root.appending(path: "Sources/Pebble/Checkpoint"))
    #expect(tokenizer.vocabularySize == 4093)
    let ids = try tokenizer.encode("<|start_of_role|>user<|end_of_role|>12 Äpfel 😀\n")
    #expect(ids.first == 4090)
    #expect(tokenizer.piece(4090) == "<|start_of_role|>")
    #expect(tokenizer.isSpecial(4090))
    #expect(try tokenizer.decode(ids) == "<|start_of_role|>user<|end_of_role|>12 Äpfel 😀\n")
    #expect(try tokenizer.decode(ids, skipSpecialTokens: true) == "user12 Äpfel 😀\n")
  }
}
