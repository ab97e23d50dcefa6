import JSON
import TestSupport
import Testing

@testable import Tokenization

/// Merging against a plain implementation that looks at everything after every merge.
@Suite struct BPETests {
  /// Letters, and merges of pieces chosen at random.
  struct Model {
    var pieces: [String]
    var merges: [(String, String)] = []

    init(letters: String, merges count: Int, using generator: inout SplitMix64) {
      pieces = letters.map { String($0) }
      while merges.count < count {
        let pair = (
          pieces.randomElement(using: &generator)!, pieces.randomElement(using: &generator)!
        )
        let merged = pair.0 + pair.1
        if merged.utf8.count > 12 || merges.contains(where: { $0 == pair }) { continue }
        // Some pieces can be made in several ways.
        if !pieces.contains(merged) { pieces.append(merged) }
        merges.append(pair)
      }
    }

    func tokenizer(mergesAsStrings: Bool) throws -> Tokenizer {
      let vocabulary = JSONObject(pieces.enumerated().map { ($1, .integer($0)) })
      let merges = merges.map { left, right -> JSONValue in
        mergesAsStrings ? .string(left + " " + right) : .array([.string(left), .string(right)])
      }
      let document: JSONObject = [
        "version": "1.0",
        "pre_tokenizer": .object([
          "type": "ByteLevel", "add_prefix_space": false, "use_regex": false,
        ]),
        "decoder": .object(["type": "ByteLevel"]),
        "model": .object([
          "type": "BPE", "vocab": .object(vocabulary), "merges": .array(merges),
        ]),
      ]
      return try Tokenizer(json: Array(JSONValue.object(document).serialized().utf8))
    }

    func encode(_ word: String) -> [TokenID] {
      var parts = word.map { String($0) }
      while true {
        var best: (rank: Int, at: Int)?
        for at in parts.indices.dropLast() {
          guard let rank = merges.firstIndex(where: { $0 == (parts[at], parts[at + 1]) }) else {
            continue
          }
          if rank < best?.rank ?? .max { best = (rank, at) }
        }
        guard let best else { break }
        parts[best.at] += parts.remove(at: best.at + 1)
      }
      return parts.map { TokenID(pieces.firstIndex(of: $0)!) }
    }
  }

  /// Words on both sides of the length from which a heap is used, with few letters, so that many
  /// merges compete.
  @Test func equalsThePlainAlgorithm() throws {
    var generator = SplitMix64(seed: 5)
    for round in 0..<60 {
      let letters = String("abcdef".prefix(1 + round % 6))
      let model = Model(letters: letters, merges: round % 6 == 0 ? 11 : 30, using: &generator)
      let tokenizer = try model.tokenizer(mergesAsStrings: round % 2 == 0)
      for length in [1, 2, 3, 5, 8, 13, 21, 34, 47, 48, 49, 50, 64, 96, 150] {
        var word = ""
        for _ in 0..<length { word.append(letters.randomElement(using: &generator)!) }
        #expect(try tokenizer.encode(word) == model.encode(word), "\(word) round \(round)")
      }
    }
  }

  /// The last of equal merges counts, as in Hugging Face's tokenizers.
  @Test func laterMergesReplaceEarlierOnes() throws {
    var generator = SplitMix64(seed: 1)
    var model = Model(letters: "abc", merges: 0, using: &generator)
    model.pieces += ["ab", "bc"]
    model.merges = [("a", "b"), ("b", "c"), ("a", "b")]
    #expect(try model.tokenizer(mergesAsStrings: false).encode("abc") == [0, 4])
  }

  /// A byte without a piece is left out, and its neighbours meet.
  @Test func bytesWithoutAPieceAreLeftOut() throws {
    var generator = SplitMix64(seed: 1)
    var model = Model(letters: "ab", merges: 0, using: &generator)
    model.pieces.append("ab")
    model.merges = [("a", "b")]
    let tokenizer = try model.tokenizer(mergesAsStrings: true)
    #expect(try tokenizer.encode("axb") == [2])
    #expect(try tokenizer.encode("x") == [])
    #expect(try tokenizer.encode(String(repeating: "x", count: 100)) == [])
    #expect(try tokenizer.encode(String(repeating: "x", count: 99) + "a") == [0])
  }

  @Test func heapSorts() {
    var generator = SplitMix64(seed: 2)
    for count in [0, 1, 2, 3, 10, 1000] {
      let values = (0..<count).map { _ in generator.next() % 500 }
      var heap = MinimumHeap()
      for value in values { heap.push(value) }
      var sorted: [UInt64] = []
      while let value = heap.pop() { sorted.append(value) }
      #expect(sorted == values.sorted())
    }
  }
}
