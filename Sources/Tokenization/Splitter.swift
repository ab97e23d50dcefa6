/// Cuts text at the matches of a pattern, as Hugging Face's `Split` does.
struct Splitter: Sendable {
  /// What becomes of the matches.
  enum Behavior: String, Sendable {
    case removed = "Removed"
    case isolated = "Isolated"
    case mergedWithPrevious = "MergedWithPrevious"
    case mergedWithNext = "MergedWithNext"
    case contiguous = "Contiguous"
  }

  let pattern: Pattern
  let behavior: Behavior
  /// Takes what does not match for the matches, and the matches for the rest.
  let invert: Bool

  /// The pattern of GPT-2, which ByteLevel applies unless told not to.
  static let gpt2 =
    #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

  /// Cuts the text parts, each searched for itself. Parts that come back are not empty.
  func split(
    _ text: [UInt8], _ parts: [PreTokenizer.Part]
  ) throws(TokenizerError) -> [PreTokenizer.Part] {
    var collector = PartCollector(behavior: behavior, invert: invert)
    collector.parts.reserveCapacity(max(parts.count, text.count / 4))
    let matcher = Pattern.Matcher(pattern)
    try text.withUnsafeBufferPointer { text throws(TokenizerError) in
      for part in parts {
        guard part.isText, !staysWhole(text, part.range) else {
          collector.parts.append(part)
          continue
        }
        let slice = UnsafeBufferPointer(rebasing: text[part.range])
        try search(slice, matcher, part.range.lowerBound, &collector)
        collector.endPart()
      }
    }
    return collector.parts
  }

  /// A single scalar can only stay as it is, unless it is to be removed.
  @inline(__always)
  private func staysWhole(_ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) -> Bool {
    behavior != .removed && range.count == UTF8Text.length(lead: text[range.lowerBound])
  }

  /// Hands over the matches in `text`, which begins at `base`, and what lies between them.
  private func search(
    _ text: UnsafeBufferPointer<UInt8>, _ matcher: borrowing Pattern.Matcher, _ base: Int,
    _ collector: inout PartCollector
  ) throws(TokenizerError) {
    var end = 0  // of what is handed over
    var next = 0  // where the next search begins
    var lastMatchEnd = -1
    while next <= text.count {
      let match: Range<Int>?
      do {
        match = try matcher.match(in: text, from: next)
      } catch {
        guard case .matchFailed(let reason, let offset) = error else { throw error }
        throw .matchFailed(reason: reason, offset: base + offset)
      }
      guard let match else { break }
      // An empty match right after a match does not count; the search goes on one scalar later.
      if match.isEmpty, match.lowerBound == lastMatchEnd {
        next += next < text.count ? UTF8Text.length(lead: text[next]) : 1
        continue
      }
      next = match.upperBound
      lastMatchEnd = match.upperBound
      if end < match.lowerBound {
        collector.add(base + end..<base + match.lowerBound, isMatch: false)
      }
      collector.add(base + match.lowerBound..<base + match.upperBound, isMatch: true)
      end = match.upperBound
    }
    if end < text.count { collector.add(base + end..<base + text.count, isMatch: false) }
  }
}

/// Puts matches and the stretches between them together as a behavior asks.
private struct PartCollector {
  let behavior: Splitter.Behavior
  let invert: Bool
  var parts: [PreTokenizer.Part] = []

  /// The part that later stretches of the same part may still join.
  private var open: Range<Int>?
  private var previousIsMatch = false

  init(behavior: Splitter.Behavior, invert: Bool) {
    self.behavior = behavior
    self.invert = invert
  }

  @inline(__always)
  private mutating func append(_ range: Range<Int>) {
    if !range.isEmpty { parts.append(PreTokenizer.Part(range: range)) }
  }

  @inline(__always)
  mutating func add(_ range: Range<Int>, isMatch: Bool) {
    let isMatch = isMatch != invert
    switch behavior {
    case .isolated: append(range)
    case .removed: if !isMatch { append(range) }
    case .contiguous: join(range, isMatch == previousIsMatch, isMatch)
    case .mergedWithPrevious: join(range, isMatch && !previousIsMatch, isMatch)
    case .mergedWithNext: join(range, !isMatch && previousIsMatch, isMatch)
    }
  }

  private mutating func join(_ range: Range<Int>, _ joins: Bool, _ isMatch: Bool) {
    if joins, let start = open?.lowerBound {
      open = start..<range.upperBound
    } else {
      if let open { append(open) }
      open = range
    }
    previousIsMatch = isMatch
  }

  /// What follows belongs to another part.
  mutating func endPart() {
    if let open { append(open) }
    open = nil
    previousIsMatch = false
  }
}
