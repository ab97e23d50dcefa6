import ModelFiles
import Tokenization

/// The tokens of a text that a calibration runs, cut into windows: each is a sequence of its own.
struct CalibrationTokens {
  let windows: [[TokenID]]

  /// Tokens of a window, where there are as many and the model has room for them.
  private static let windowLength = 512

  /// As many whole windows as `count` tokens make, from the beginning of the text to its end at equal
  /// distances; all tokens where there are not more.
  init(_ tokens: [TokenID], atMost count: Int, contextLength: Int) {
    let length = min(Self.windowLength, count, contextLength)
    if tokens.count <= count {
      windows = stride(from: 0, to: tokens.count, by: length).map {
        Array(tokens[$0..<min($0 + length, tokens.count)])
      }
    } else {
      let last = tokens.count - length
      let windowCount = count / length
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
