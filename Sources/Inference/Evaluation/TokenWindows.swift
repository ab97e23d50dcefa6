public import Tokenization

/// A text cut into windows of equal length, each evaluated by itself from position 0, and which of
/// their predictions are scored.
///
/// The first `skip` tokens of a window are context only: scored are the predictions made at the
/// positions from `skip` to the last but one, whose next token the window still holds. With half a
/// window skipped, the default, this is what llama.cpp's perplexity tool does for models whose
/// tokenizer adds no beginning-of-text token, so that figures can be compared. What is left over at
/// the end of the text is dropped.
public struct TokenWindows: Sendable, Equatable {
  /// The windows, in order.
  public let windows: [ArraySlice<TokenID>]
  /// Tokens of a window.
  public let length: Int
  /// Tokens of a window that are context only.
  public let skip: Int

  /// Scored predictions of a window.
  public var scoredPerWindow: Int { length - 1 - skip }
  /// Scored predictions of all windows.
  public var scoredCount: Int { windows.count * scoredPerWindow }

  /// - Parameters:
  ///   - length: at least 2.
  ///   - skip: from 0 to `length - 2`; half of `length` if nil.
  ///   - limit: windows at most.
  /// - Precondition: the parameters are in their ranges.
  public init(_ tokens: [TokenID], length: Int = 512, skip: Int? = nil, limit: Int = .max) {
    let skip = skip ?? Self.defaultSkip(length: length)
    precondition(length >= 2 && (0...length - 2).contains(skip) && limit >= 0)
    self.length = length
    self.skip = skip
    windows = (0..<min(tokens.count / length, limit)).map {
      tokens[$0 * length..<($0 + 1) * length]
    }
  }

  /// Half a window, of which at least one prediction is left.
  public static func defaultSkip(length: Int) -> Int { min(length / 2, length - 2) }
}
