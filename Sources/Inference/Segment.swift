import TensorCore
import Tokenization

/// Consecutive tokens of one sequence in a forward pass, which may take several sequences at once:
/// chunks of prompts and single tokens, each in consecutive rows of the workspace.
struct Segment {
  let tokens: ArraySlice<TokenID>
  /// Of the first token in its sequence.
  let position: Int
  /// Has room for all of them.
  let cache: KVCache
  /// Nil for models without recurrent layers; has seen all tokens before.
  let state: RecurrentState?
  /// Of the first token.
  let row: Int

  var rows: Range<Int> { row..<row + tokens.count }
}

/// Why a forward pass ended early: the first row at fault.
struct PassFailure: Error {
  enum Reason {
    /// An input of a product was infinite or not a number.
    case activation
    /// A key or value is not finite, or beyond what the type of the cache holds.
    case cache
  }

  let row: Int
  let reason: Reason
  /// Nil after the last layer.
  var layer: Int?

  func inLayer(_ layer: Int) -> PassFailure {
    PassFailure(row: row, reason: reason, layer: layer)
  }

  /// What it means for the sequence whose row it is.
  func error(position: Int, cacheType: CacheType) -> InferenceError {
    switch reason {
    case .activation: .nonFiniteActivation(position: position, layer: layer)
    case .cache: .cacheRange(type: cacheType, position: position, layer: layer ?? 0)
    }
  }
}
