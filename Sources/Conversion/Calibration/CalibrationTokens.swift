import ModelFiles
import Tokenization

/// The tokens of a text that a calibration runs, cut into windows: each is a sequence of its own.
struct CalibrationTokens {
  let windows: [[TokenID]]

  /// Tokens of a window at most: more windows see more of a text's kinds, longer ones more of what
  /// follows from what.
  private static let longestWindow = 512

  /// Windows of one length, from the beginning of the text to its end at equal distances; all tokens
  /// where there are not more than `count`.
  ///
  /// - Precondition: there are tokens, and `count` is positive.
  init(_ tokens: [TokenID], atMost count: Int, contextLength: Int) {
    let longest = min(Self.longestWindow, contextLength)
    let windowCount = (min(count, tokens.count) + longest - 1) / longest
    if tokens.count <= count {
      let length = (tokens.count + windowCount - 1) / windowCount
      windows = stride(from: 0, to: tokens.count, by: length).map {
        Array(tokens[$0..<min($0 + length, tokens.count)])
      }
    } else {
      let length = count / windowCount
      let last = tokens.count - length
      windows = (0..<windowCount).map { window in
        let start = windowCount == 1 ? 0 : last / (windowCount - 1) * window
        return Array(tokens[start..<start + length])
      }
    }
  }

  var count: Int { windows.reduce(0) { $0 + $1.count } }

  /// What statistics and slabs record: it identifies the tokens and how they are cut.
  var origin: String {
    var words: [UInt32] = []
    for window in windows {
      words.append(UInt32(window.count).littleEndian)
      words += window.map { UInt32(bitPattern: $0).littleEndian }
    }
    return "\(count) tokens, sha256 \(words.withUnsafeBytes { Digest(of: $0) })"
  }
}
