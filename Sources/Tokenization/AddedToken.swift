/// A token that is matched in the text as it stands, before anything else looks at the text.
public struct AddedToken: Sendable, Equatable {
  /// The id that the text becomes.
  public let id: TokenID
  /// The text that is matched, as a whole.
  public let content: String
  /// Special tokens are left out when decoding with `skipSpecialTokens`; they are matched in texts
  /// like every other added token.
  public let special: Bool
  /// Matched only where no word character (`\w`) touches it.
  public let singleWord: Bool
  /// The match takes the white space on its left.
  public let leftStrip: Bool
  /// The match takes the white space on its right.
  public let rightStrip: Bool
  /// Matched after the others, in the normalized text. There is no normalizer here, so this decides
  /// only the precedence.
  public let normalized: Bool

  public static func == (a: AddedToken, b: AddedToken) -> Bool {
    a.id == b.id && a.content.utf8.elementsEqual(b.content.utf8) && a.special == b.special
      && a.singleWord == b.singleWord && a.leftStrip == b.leftStrip
      && a.rightStrip == b.rightStrip && a.normalized == b.normalized
  }
}
