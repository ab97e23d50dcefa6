import JSON

/// Why a tokenizer.json cannot be executed, or a text or id cannot be converted with it.
public enum TokenizerError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The document is not JSON or not of the expected form; `offset` in bytes.
  case malformed(reason: String, offset: Int)
  /// A part without which the document means nothing, such as `model.vocab`.
  case missing(component: String)
  /// A component or setting that is not executed here, named as the document names it.
  case unsupported(component: String)
  /// A part that contradicts itself or another part: `component` names the place.
  case invalid(component: String, reason: String)
  /// A pattern that does not compile; `offset` in bytes of the pattern as given to PCRE2.
  case invalidPattern(pattern: String, reason: String, offset: Int)
  /// Matching was given up, for example at the match limit; `offset` in bytes of the text.
  case matchFailed(reason: String, offset: Int)
  /// The text is not UTF-8 from `offset` on.
  case invalidUTF8(offset: Int)
  /// The text is longer than the number of bytes that can be encoded in one call.
  case textTooLong(bytes: Int, limit: Int)
  /// The vocabulary has no such id.
  case unknownID(TokenID, vocabularySize: Int)

  public var description: String {
    switch self {
    case .malformed(let reason, let offset): "tokenizer: \(reason.shown) at byte \(offset)"
    case .missing(let component): "tokenizer: \(component.shown) is missing"
    case .unsupported(let component): "tokenizer: \(component.shown) is not supported"
    case .invalid(let component, let reason): "tokenizer: \(component.shown): \(reason.shown)"
    case .invalidPattern(let pattern, let reason, let offset):
      "tokenizer: the pattern \(pattern.shown) does not compile: \(reason) at byte \(offset)"
    case .matchFailed(let reason, let offset):
      "tokenizer: splitting the text failed at byte \(offset): \(reason)"
    case .invalidUTF8(let offset): "the text is not valid UTF-8 at byte \(offset)"
    case .textTooLong(let bytes, let limit):
      "the text has \(bytes) bytes, at most \(limit) can be encoded at once"
    case .unknownID(let id, let size): "token id \(id) is not in the vocabulary of \(size)"
    }
  }
}
