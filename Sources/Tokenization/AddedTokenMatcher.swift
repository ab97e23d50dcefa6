/// Finds added tokens in a text: the leftmost match, the longest among those that begin there, then
/// on behind it, as Hugging Face's tokenizers does with an Aho-Corasick automaton.
struct AddedTokenMatcher: Sendable {
  /// Longest content in bytes, so that a search takes at most this many steps for every byte.
  static let maximumLength = 1024

  private let tokens: [AddedToken]
  /// A trie: the pair (node, byte) leads to the child's number. Node 0 is the root.
  private var children: PairTable
  /// Index in `tokens` of the token that ends at a node; -1 for none.
  private var tokenAtNode: [Int32] = [-1]
  private var beginsToken = [Bool](repeating: false, count: 256)

  /// The contents must be different, not empty and at most ``maximumLength`` long.
  init(_ tokens: [AddedToken]) {
    self.tokens = tokens
    children = PairTable(capacity: tokens.reduce(0) { $0 + $1.content.utf8.count })
    for (index, token) in tokens.enumerated() {
      var node: Int32 = 0
      for byte in token.content.utf8 {
        if node == 0 { beginsToken[Int(byte)] = true }
        var child = children.find(node, Int32(byte)).id
        if child < 0 {
          child = Int32(tokenAtNode.count)
          tokenAtNode.append(-1)
          children.insert(node, Int32(byte), PairTable.Value(rank: 0, id: child))
        }
        node = child
      }
      tokenAtNode[Int(node)] = Int32(index)
    }
  }

  /// Cuts the text parts of `text` at the tokens in them.
  func split(_ text: [UInt8], _ parts: [PreTokenizer.Part]) -> [PreTokenizer.Part] {
    if tokens.isEmpty { return parts }
    var result: [PreTokenizer.Part] = []
    text.withUnsafeBufferPointer { text in
      for part in parts {
        if part.isText { split(text, part.range, &result) } else { result.append(part) }
      }
    }
    return result
  }

  private func split(
    _ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ result: inout [PreTokenizer.Part]
  ) {
    var rest = range.lowerBound  // up to where `result` covers the range
    var at = range.lowerBound
    while let (match, token) = nextMatch(text, at..<range.upperBound) {
      at = match.upperBound
      if token.singleWord, touchesWord(text, match, in: range) { continue }
      var match = match
      if token.leftStrip {
        var start = match.lowerBound
        while start > range.lowerBound {
          let (scalar, length) = UTF8Text.scalar(in: text, before: start)
          guard scalar.properties.isWhitespace else { break }
          start -= length
        }
        // Another token's right side may have the white space already, even all of the match.
        start = max(start, rest)
        if start >= match.upperBound { continue }
        match = start..<match.upperBound
      }
      if token.rightStrip {
        var end = match.upperBound
        while end < range.upperBound {
          let (scalar, length) = UTF8Text.scalar(in: text, at: end)
          guard scalar.properties.isWhitespace else { break }
          end += length
        }
        match = match.lowerBound..<end
      }
      if rest < match.lowerBound {
        result.append(PreTokenizer.Part(range: rest..<match.lowerBound))
      }
      result.append(PreTokenizer.Part(range: match, id: token.id))
      // White space that a token took on its right may hold another token: the search does not
      // skip it, and what is covered may shrink again, as in Hugging Face's implementation.
      rest = match.upperBound
    }
    if rest < range.upperBound {
      result.append(PreTokenizer.Part(range: rest..<range.upperBound))
    }
  }

  /// The first and there longest token that begins in `range` and ends in it.
  private func nextMatch(
    _ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>
  ) -> (Range<Int>, AddedToken)? {
    var start = range.lowerBound
    while start < range.upperBound {
      if beginsToken[Int(text[start])] {
        var node: Int32 = 0
        var at = start
        var longest: (end: Int, token: Int32)?
        while at < range.upperBound {
          node = children.find(node, Int32(text[at])).id
          if node < 0 { break }
          at += 1
          if tokenAtNode[Int(node)] >= 0 { longest = (at, tokenAtNode[Int(node)]) }
        }
        if let longest { return (start..<longest.end, tokens[Int(longest.token)]) }
      }
      start += 1
    }
    return nil
  }

  private func touchesWord(
    _ text: UnsafeBufferPointer<UInt8>, _ match: Range<Int>, in range: Range<Int>
  ) -> Bool {
    match.lowerBound > range.lowerBound
      && isWord(UTF8Text.scalar(in: text, before: match.lowerBound).scalar)
      || match.upperBound < range.upperBound
        && isWord(UTF8Text.scalar(in: text, at: match.upperBound).scalar)
  }

  /// `\w` of Unicode Technical Standard 18, annex C.
  private func isWord(_ scalar: Unicode.Scalar) -> Bool {
    let properties = scalar.properties
    if properties.isAlphabetic || properties.isJoinControl { return true }
    switch properties.generalCategory {
    case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation:
      return true
    default: return false
    }
  }
}
