import TensorCore

/// How a pass's attention is cut into pieces of work, the same for every layer.
///
/// A piece is a KV head of a segment, with as many tokens as share well each load of keys and values
/// (their query heads all do), and all tiles, joined on the way. A single token deep in its context
/// makes too few such pieces for many threads: its tiles are handed out in ranges, what each tile
/// gives is kept, and joined afterwards in their order. Both ways give the same bits.
struct AttentionPlan {
  struct Piece {
    let segment: Int
    let head: Int
    /// Tokens of the segment.
    let tokens: Range<Int>
    let tiles: Range<Int>
    /// For tiles that are joined afterwards, the slot of the first query's result over tile 0;
    /// those of the other queries, then those of other tiles follow.
    let firstSlot: Int?
  }

  private(set) var pieces: [Piece] = []
  /// The whole of what was handed out in ranges.
  private(set) var joins: [Piece] = []
  private(set) var slotCount = 0
  let paddedHeadSize: Int

  /// Queries that one piece holds: some blocks of every kernel, so that a tile stays in the cache.
  private static let queriesPerPiece = 64

  init(_ segments: [Segment], shape: ModelShape, threadCount: Int) {
    paddedHeadSize = shape.paddedHeadSize
    let group = shape.headCount / shape.keyValueHeadCount
    let tokensPerPiece = max(1, Self.queriesPerPiece / group)
    let whole = segments.reduce(0) {
      $0 + shape.keyValueHeadCount * (($1.tokens.count - 1) / tokensPerPiece + 1)
    }
    // Some for each thread, so that the last to finish is not late.
    let cuts = threadCount == 1 ? 1 : (4 * threadCount - 1) / whole + 1
    for (index, segment) in segments.enumerated() {
      let count = segment.tokens.count
      for head in 0..<shape.keyValueHeadCount {
        if count == 1, cuts > 1, segment.position >= AttentionTile.positions {
          cut(Self.piece(segment, index, head, 0..<1, slotCount), into: cuts)
          slotCount += group * joins.last!.tiles.count
        } else {
          for first in stride(from: 0, to: count, by: tokensPerPiece) {
            let tokens = first..<min(first + tokensPerPiece, count)
            pieces.append(Self.piece(segment, index, head, tokens, nil))
          }
        }
      }
    }
  }

  private mutating func cut(_ piece: Piece, into cuts: Int) {
    joins.append(piece)
    let count = piece.tiles.count
    let ranges = min(cuts, count)
    for range in 0..<ranges {
      pieces.append(
        Piece(
          segment: piece.segment, head: piece.head, tokens: piece.tokens,
          tiles: count * range / ranges..<count * (range + 1) / ranges,
          firstSlot: piece.firstSlot))
    }
  }

  /// With all tiles up to that of the last token.
  private static func piece(
    _ segment: Segment, _ index: Int, _ head: Int, _ tokens: Range<Int>, _ firstSlot: Int?
  ) -> Piece {
    let last = segment.position + tokens.upperBound - 1
    return Piece(
      segment: index, head: head, tokens: tokens, tiles: 0..<last / AttentionTile.positions + 1,
      firstSlot: firstSlot)
  }
}

/// What the queries of a plan's cut pieces gathered from single tiles.
final class AttentionSlots {
  private var queries = AlignedBuffer(byteCount: 0)
  private var outputs = AlignedBuffer(byteCount: 0)

  func reserve(_ count: Int, headSize: Int) {
    guard outputs.byteCount < count * headSize * 4 else { return }
    let room = count + count / 2  // grows seldom
    queries = AlignedBuffer(byteCount: room * MemoryLayout<AttentionQuery>.stride)
    outputs = AlignedBuffer(byteCount: room * headSize * 4)
  }

  /// The place of `count` queries from `slot` on.
  func queries(_ slot: Int, _ count: Int) -> UnsafeMutableBufferPointer<AttentionQuery> {
    UnsafeMutableBufferPointer(
      start: queries.base.assumingMemoryBound(to: AttentionQuery.self) + slot, count: count)
  }

  func output(_ slot: Int, headSize: Int) -> UnsafeMutablePointer<Float> {
    outputs.floats + slot * headSize
  }
}
