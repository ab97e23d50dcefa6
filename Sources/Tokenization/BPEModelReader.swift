import JSON

/// The member `model` of tokenizer.json, of type BPE.
struct BPEModelReader {
  private var pieces = Arena()
  private var ids: [Int] = []
  private var merges = Arena()

  /// Reads the object that comes next.
  init(_ scanner: inout JSONScanner) throws {
    var seen = SeenKeys()
    var type: JSONValue?
    try scanner.object { scanner, key in
      try seen.add(key, in: "model")
      switch key {
      case "type":
        let value = try scanner.value()
        guard value == .string("BPE") else { throw unsupported("model.type", value) }
        type = value
      case "vocab":
        try scanner.object { scanner, piece in
          ids.append(try scanner.integer())
          pieces.append(piece.utf8)
        }
      case "merges": try readMerges(&scanner)
      case "dropout", "unk_token":
        let value = try scanner.value()
        guard value.isNull else { throw unsupported("model.\(key)", value) }
      case "continuing_subword_prefix", "end_of_word_suffix":
        let value = try scanner.value()
        guard value.isNull || value == .string("") else { throw unsupported("model.\(key)", value) }
      case "fuse_unk", "byte_fallback", "ignore_merges":
        let value = try scanner.value()
        guard value == .bool(false) else { throw unsupported("model.\(key)", value) }
      default: throw TokenizerError.unsupported(component: "model.\(key)")
      }
    }
    guard type != nil else { throw TokenizerError.missing(component: "model.type") }
    guard !ids.isEmpty else { throw TokenizerError.missing(component: "model.vocab") }
  }

  /// Merges are pairs of pieces, or, in the older form, strings with a blank between the two.
  private mutating func readMerges(_ scanner: inout JSONScanner) throws {
    var form: JSONScanner.Kind?
    try scanner.array { scanner in
      let kind = try scanner.peek()
      let start = scanner.offset
      func malformed() -> TokenizerError {
        .malformed(reason: "merge \(merges.count / 2) is not a pair of pieces", offset: start)
      }
      guard form == nil || form == kind else { throw malformed() }
      form = kind
      switch kind {
      case .array:
        var count = 0
        try scanner.array { scanner in
          merges.append(try scanner.string().utf8)
          count += 1
        }
        guard count == 2 else { throw malformed() }
      case .string:
        let text = try scanner.string().utf8
        // merges.txt begins with such a line.
        if text.starts(with: "#version".utf8) { return }
        let parts = text.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
        guard parts.count == 2 else { throw malformed() }
        for part in parts { merges.append(part) }
      default: throw malformed()
      }
    }
  }

  /// Puts the vocabulary, the added tokens and the merges together.
  consuming func finish(
    _ addedTokens: [AddedToken]
  ) throws -> (Vocabulary, BytePairEncoding) {
    let modelCount = ids.count
    for (index, token) in addedTokens.enumerated() where token.id >= modelCount {
      // Hugging Face's tokenizers numbers new tokens itself, in order, after the vocabulary.
      guard token.id == ids.count else {
        throw TokenizerError.invalid(
          component: "added_tokens[\(index)]",
          reason: "\"\(token.content)\" has id \(token.id), the next one is \(ids.count)")
      }
      ids.append(Int(token.id))
      pieces.append(token.content.utf8)
    }
    let vocabulary = try Vocabulary(entries: pieces, ids: ids)
    var isAdded = [Bool](repeating: false, count: vocabulary.count)
    for (index, token) in addedTokens.enumerated() {
      guard vocabulary.spellings[Int(token.id)].elementsEqual(token.content.utf8) else {
        let piece = String(decoding: vocabulary.spellings[Int(token.id)], as: UTF8.self)
        throw TokenizerError.invalid(
          component: "added_tokens[\(index)]",
          reason: "\"\(token.content)\" has id \(token.id), which is \"\(piece)\"")
      }
      guard !isAdded[Int(token.id)] else {
        throw TokenizerError.invalid(
          component: "added_tokens[\(index)]", reason: "\"\(token.content)\" is added twice")
      }
      isAdded[Int(token.id)] = true
    }
    // Added tokens that the model's vocabulary does not have take no part in the encoding.
    let byteIDs = ByteAlphabet.scalars.map { scalar in
      vocabulary.id(of: String(scalar)).flatMap { $0 < modelCount ? $0 : nil } ?? -1
    }
    let merges = try mergeTable(vocabulary, modelCount)
    return (vocabulary, BytePairEncoding(byteIDs: byteIDs, merges: merges))
  }

  private func mergeTable(_ vocabulary: Vocabulary, _ modelCount: Int) throws -> PairTable {
    let count = merges.count / 2
    var table = PairTable(capacity: count)
    try merges.bytes.withUnsafeBytes { bytes in
      for rank in 0..<count {
        let left = merges.range(2 * rank)
        let right = merges.range(2 * rank + 1)
        func id(_ range: Range<Int>) throws -> TokenID {
          let piece = UnsafeRawBufferPointer(rebasing: bytes[range])
          guard let id = vocabulary.id(of: piece), id < modelCount else {
            throw TokenizerError.invalid(
              component: "model.merges[\(rank)]",
              reason: "\"\(String(decoding: piece, as: UTF8.self))\" is not in the vocabulary")
          }
          return id
        }
        // The two lie side by side, so the merged piece does too.
        let merged = try id(left.lowerBound..<right.upperBound)
        table.insert(
          try id(left), try id(right), PairTable.Value(rank: UInt32(rank), id: merged))
      }
    }
    return table
  }
}
