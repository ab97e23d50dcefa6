/// Turns ids into text one after another, as a model produces them.
///
/// A token may end in the middle of a character; such bytes are held back until the character is
/// complete, so that what has been pushed and finished always joins to exactly what
/// ``Tokenizer/decode(_:skipSpecialTokens:)`` makes of all ids.
public struct StreamDecoder: Sendable {
  private let tokenizer: Tokenizer
  private let skipSpecialTokens: Bool
  /// The beginning of a character, at most three bytes.
  private var pending: [UInt8] = []
  private var isFirst = true

  /// Decodes ids of `tokenizer` from the beginning of a text.
  public init(_ tokenizer: Tokenizer, skipSpecialTokens: Bool) {
    self.tokenizer = tokenizer
    self.skipSpecialTokens = skipSpecialTokens
  }

  /// The text that is complete with this token, possibly empty. An id that the vocabulary does not
  /// have adds nothing: models may have more rows than the tokenizer has pieces.
  public mutating func push(_ id: TokenID) -> String {
    tokenizer.appendContent(
      of: id, isFirst: &isFirst, skipSpecialTokens: skipSpecialTokens, to: &pending)
    let whole = pending.count - UTF8Text.incompleteSuffix(of: pending)
    defer { pending.removeFirst(whole) }
    return String(decoding: pending[..<whole], as: UTF8.self)
  }

  /// What is held back: U+FFFD for a character that never became complete. The decoder can then
  /// begin anew.
  public mutating func finish() -> String {
    defer {
      pending = []
      isFirst = true
    }
    return String(decoding: pending, as: UTF8.self)
  }
}
