import Tokenization

/// Where states of recurrent layers are kept while a prompt is read, for prompts that begin like it.
enum StatePositions {
  /// Before the last token, which whoever has the same prompt runs again; where the second message
  /// begins, for chats with the same instructions; where this prompt differs from another one; and back
  /// from the end, at distances that grow fourfold, where messages begin and, in long ones, at multiples
  /// of 1024.
  ///
  /// - Parameters:
  ///   - start: tokens that have been seen already.
  ///   - fork: tokens that it has in common with another prompt.
  /// - Returns: ascending.
  static func of(
    _ prompt: ArraySlice<TokenID>, from start: Int, fork: Int, messageStart: TokenID?
  ) -> [Int] {
    let end = prompt.count - 1
    guard end > start else { return [] }
    let messages = Set(prompt.indices.filter { prompt[$0] == messageStart })
    let candidates = messages.union(stride(from: longDistance, to: end, by: longDistance))
    var kept = [end]
    var distance = leastDistance
    for position in candidates.sorted(by: >) where position >= start + leastDistance {
      let least = messages.contains(position) ? distance : max(distance, longDistance)
      if kept.last! - position >= least {
        kept.append(position)
        distance *= 4
      }
    }
    for position in [messages.filter { $0 > 0 }.min(), fork].compactMap({ $0 }) {
      if !([start] + kept).contains(where: { abs($0 - position) < leastDistance }),
        (start..<end).contains(position)
      {
        kept.append(position)
      }
    }
    return kept.sorted()
  }

  /// A state is not worth fewer tokens.
  private static let leastDistance = 16
  /// Of states within a message.
  private static let longDistance = 1024
}
