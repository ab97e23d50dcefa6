/// Finds stop strings in text that arrives in pieces, and holds back what may become one.
///
/// The first string to be complete ends the text, of several that end together the longest: the
/// outcome does not depend on where pieces end. Matching is by bytes of UTF-8.
struct StopStrings {
  /// One string, with the failure function of Knuth, Morris and Pratt (1977).
  private struct Pattern {
    let bytes: [UInt8]
    let failure: [Int]
    /// Bytes of the pattern that the text seen so far ends with.
    var matched = 0

    init(_ text: String) {
      bytes = Array(text.utf8)
      var failure = [0]
      var length = 0
      for byte in bytes.dropFirst() {
        while length > 0 && bytes[length] != byte { length = failure[length - 1] }
        if bytes[length] == byte { length += 1 }
        failure.append(length)
      }
      self.failure = failure
    }

    /// Whether the pattern ends with `byte`.
    mutating func advance(_ byte: UInt8) -> Bool {
      if matched == bytes.count { matched = failure[matched - 1] }
      while matched > 0 && bytes[matched] != byte { matched = failure[matched - 1] }
      if bytes[matched] == byte { matched += 1 }
      return matched == bytes.count
    }
  }

  private var patterns: [Pattern]
  private var held: [UInt8] = []

  /// - Precondition: no string is empty.
  init(_ strings: [String]) { patterns = strings.map { Pattern($0) } }

  /// Takes the next piece of text.
  ///
  /// - Parameter mayStop: false while the completion is too short to end; a string that ends in this
  ///   piece is then text like any other.
  /// - Returns: the text that can be no part of a stop string, and whether one was found; what
  ///   follows is then dropped.
  mutating func append(_ piece: String, mayStop: Bool) -> (text: String, stopped: Bool) {
    if patterns.isEmpty { return (piece, false) }
    for byte in piece.utf8 {
      held.append(byte)
      var found = 0
      for index in patterns.indices where patterns[index].advance(byte) {
        found = max(found, patterns[index].bytes.count)
      }
      if found > 0 && mayStop {
        held.removeLast(found)
        return (takeHeld(keeping: 0), true)
      }
    }
    let keep = patterns.map {
      $0.matched == $0.bytes.count ? $0.failure[$0.matched - 1] : $0.matched
    }
    return (takeHeld(keeping: keep.max() ?? 0), false)
  }

  /// The rest, once no more text comes.
  mutating func finish() -> String { takeHeld(keeping: 0) }

  private mutating func takeHeld(keeping count: Int) -> String {
    let end = held.count - count
    defer { held.removeSubrange(..<end) }
    return String(decoding: held[..<end], as: UTF8.self)
  }
}
