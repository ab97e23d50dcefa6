/// The number of a piece of the vocabulary, a row of the model's embedding.
public typealias TokenID = Int32

/// A byte-level BPE tokenizer, as a Hugging Face tokenizer.json describes it.
///
/// Executed are: added tokens of every kind; the pre-tokenizers `ByteLevel`, `Digits`, `Split` and
/// `Sequence`; `BPE`; the decoder `ByteLevel` or none; the post-processor `ByteLevel` (which
/// changes no id) or none. Every other component is refused by name. `truncation` and `padding` are
/// settings of single calls and not executed. Ids equal those of Hugging Face's tokenizers.
///
/// A tokenizer is immutable and may be used by any number of threads.
public struct Tokenizer: Sendable {
  let vocabulary: Vocabulary
  let encoding: BytePairEncoding
  let preTokenizer: PreTokenizer
  /// Whether texts are the joined contents of tokens; otherwise spellings joined by blanks.
  let decodesBytes: Bool
  /// The added tokens, in the order of tokenizer.json.
  public let addedTokens: [AddedToken]
  private let specialIDs: Set<TokenID>
  private let plainMatcher: AddedTokenMatcher
  private let normalizedMatcher: AddedTokenMatcher

  /// The version of Unicode whose character properties pre-tokenizers go by on this machine, that of
  /// the installed PCRE2. Texts with characters that are younger may have other ids elsewhere.
  public static var unicodeVersion: String { Pattern.unicodeVersion }

  /// Longest text in bytes that can be encoded at once.
  static let maximumTextLength = Int(Int32.max) / 2

  /// Reads a tokenizer.json. Throws `TokenizerError`.
  public init(json: [UInt8]) throws {
    self = try TokenizerReader.read(json)
  }

  init(
    vocabulary: Vocabulary, encoding: BytePairEncoding, preTokenizer: PreTokenizer,
    decodesBytes: Bool, addedTokens: [AddedToken]
  ) {
    self.vocabulary = vocabulary
    self.encoding = encoding
    self.preTokenizer = preTokenizer
    self.decodesBytes = decodesBytes
    self.addedTokens = addedTokens
    specialIDs = Set(addedTokens.lazy.filter(\.special).map(\.id))
    plainMatcher = AddedTokenMatcher(addedTokens.filter { !$0.normalized })
    normalizedMatcher = AddedTokenMatcher(addedTokens.filter(\.normalized))
  }

  /// Highest id + 1. Ids have no holes.
  public var vocabularySize: Int { vocabulary.count }

  /// The ids of a text. Added tokens, special or not, are matched wherever they stand in it.
  ///
  /// Throws `TokenizerError`: `.matchFailed` when a pattern reaches its limit, `.textTooLong`.
  public func encode(_ text: String) throws -> [TokenID] {
    try encode(valid: Array(text.utf8))
  }

  /// The ids of a text. Throws as ``encode(_:)``, and `TokenizerError.invalidUTF8`.
  public func encode(utf8: [UInt8]) throws -> [TokenID] {
    if let offset = utf8.withUnsafeBufferPointer(UTF8Text.firstInvalid) {
      throw TokenizerError.invalidUTF8(offset: offset)
    }
    return try encode(valid: utf8)
  }

  private func encode(valid bytes: [UInt8]) throws(TokenizerError) -> [TokenID] {
    guard bytes.count <= Self.maximumTextLength else {
      throw TokenizerError.textTooLong(bytes: bytes.count, limit: Self.maximumTextLength)
    }
    if bytes.isEmpty { return [] }
    var text = bytes
    var parts = [PreTokenizer.Part(range: 0..<text.count)]
    parts = normalizedMatcher.split(text, plainMatcher.split(text, parts))
    parts = try preTokenizer.split(&text, parts)
    var scratch = BytePairEncoding.Scratch()
    var result: [TokenID] = []
    result.reserveCapacity(parts.count)
    text.withUnsafeBufferPointer { text in
      for part in parts {
        if part.isText {
          let word = UnsafeBufferPointer(rebasing: text[part.range])
          encoding.encode(word, scratch: &scratch, to: &result)
        } else {
          result.append(part.id)
        }
      }
    }
    return result
  }

  /// The text of a sequence of ids. Bytes that are not UTF-8 become U+FFFD, one for every maximal
  /// ill-formed stretch. `skipSpecialTokens` leaves out the tokens that are marked special; other
  /// added tokens stay. Throws `TokenizerError.unknownID`.
  public func decode(_ ids: [TokenID], skipSpecialTokens: Bool = false) throws -> String {
    var bytes: [UInt8] = []
    var isFirst = true
    for id in ids {
      guard vocabulary.contains(id) else {
        throw TokenizerError.unknownID(id, vocabularySize: vocabularySize)
      }
      appendContent(of: id, isFirst: &isFirst, skipSpecialTokens: skipSpecialTokens, to: &bytes)
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Appends what a token adds to a text; nothing for ids that do not exist.
  func appendContent(
    of id: TokenID, isFirst: inout Bool, skipSpecialTokens: Bool, to bytes: inout [UInt8]
  ) {
    guard vocabulary.contains(id), !(skipSpecialTokens && isSpecial(id)) else { return }
    if decodesBytes {
      bytes.append(contentsOf: vocabulary.contents[Int(id)])
    } else {
      if !isFirst { bytes.append(UInt8(ascii: " ")) }
      bytes.append(contentsOf: vocabulary.spellings[Int(id)])
    }
    isFirst = false
  }

  /// The bytes that a token stands for, which need not be whole characters; nil for unknown ids.
  public func bytes(of id: TokenID) -> [UInt8]? {
    vocabulary.contains(id) ? Array(vocabulary.contents[Int(id)]) : nil
  }

  /// How the vocabulary spells a token, such as `Ġthe`; nil for unknown ids.
  public func piece(_ id: TokenID) -> String? {
    guard vocabulary.contains(id) else { return nil }
    return String(decoding: vocabulary.spellings[Int(id)], as: UTF8.self)
  }

  /// The token with exactly this spelling, added tokens included.
  public func id(of piece: String) -> TokenID? { vocabulary.id(of: piece) }

  /// Whether decoding with `skipSpecialTokens` leaves this token out.
  public func isSpecial(_ id: TokenID) -> Bool { specialIDs.contains(id) }
}
