import ModelFiles
import TensorCore

/// What an attention layer does between its projections, each KV head with the queries that share it.
struct AttentionHeads: Sendable {
  let count: Int
  let keyValueCount: Int
  let size: Int
  /// Factor of the scores: the configuration's multiplier, which stands in the place of 1/√size.
  let scale: Float
  /// Whether queries and keys are turned by their positions.
  let isRotary: Bool

  init(_ configuration: ModelConfiguration) {
    count = configuration.headCount
    keyValueCount = configuration.keyValueHeadCount
    size = configuration.headSize
    scale = configuration.attentionMultiplier
    isRotary = configuration.usesRotaryPositions
  }

  /// Queries that share a KV head.
  private var groupSize: Int { count / keyValueCount }
  private var paddedSize: Int { padded(size) }

  /// Tokens whose keys and values a thread enters: neighbours share lines of the cache.
  private static let tokensPerPiece = 16

  /// Adds the turning of queries and keys by their positions; keys and values enter the caches.
  func addEntering(
    key: Rows, value: Rows, layer: Int, context: PassContext, workspace: Workspace,
    to steps: inout Steps
  ) {
    let (kernels, bad) = (steps.compute.kernels, LowestIndex())
    let (query, rotated) = (workspace.query, workspace.rotated)
    let (cosines, sines) = (workspace.cosines, workspace.sines)
    func turn(
      _ head: UnsafeMutablePointer<Float>, _ row: Int, into output: UnsafeMutablePointer<Float>
    ) {
      guard isRotary else { return output.update(from: head, count: size) }
      kernels.rotate(
        head, size: size, cosines: cosines[row], sines: sines[row], output: output)
    }
    for place in 0..<context.parts.count {
      let tokenCount = context.parts[place].rows.count
      let pieces = (tokenCount - 1) / Self.tokensPerPiece + 1
      steps.add(
        LoopStage(count: pieces * keyValueCount) { index in
          let (piece, head) = index.quotientAndRemainder(dividingBy: keyValueCount)
          let part = context.parts[place]
          let tiles = part.cache.tiles(layer: layer, head: head)
          let first = piece * Self.tokensPerPiece
          for token in first..<min(first + Self.tokensPerPiece, tokenCount) {
            let row = part.rows.lowerBound + token
            let key = key[row] + head * size
            for index in head * groupSize..<(head + 1) * groupSize {
              turn(query[row] + index * size, row, into: rotated[row] + index * paddedSize)
            }
            if isRotary { turn(key, row, into: key) }
            let (tile, position) = (part.position + token).quotientAndRemainder(
              dividingBy: AttentionTile.positions)
            let fits = kernels.enter(
              key: key, value: value[row] + head * size, size: size,
              position: position, tile: tiles[tile])
            if !fits { bad.note(row) }
          }
        })
    }
    steps.check { () throws(PassFailure) in
      if let row = bad.value { throw PassFailure(row: row, reason: .cache) }
    }
  }

  /// Adds the results of attention for all rows, from their rotated queries and the caches.
  func addAttention(
    layer: Int, context: PassContext, workspace: Workspace, to steps: inout Steps
  ) {
    let (kernels, slots) = (steps.compute.kernels, context.slots)
    let (width, group) = (paddedSize, groupSize)
    let (rotated, results) = (workspace.rotated, workspace.context)
    /// The queries of a piece, all heads of a token together, with results for all rows.
    func withQueries(
      of piece: AttentionPlan.Piece, _ part: PassContext.Part,
      _ body: (UnsafeMutableBufferPointer<AttentionQuery>) -> Void
    ) {
      let count = piece.tokens.count * group
      withUnsafeTemporaryAllocation(of: AttentionQuery.self, capacity: count) { queries in
        for index in 0..<count {
          let token = piece.tokens.lowerBound + index / group
          let row = part.rows.lowerBound + token
          let offset = (piece.head * group + index % group) * width
          queries.initializeElement(
            at: index,
            to: AttentionQuery(
              rotated[row] + offset, output: results[row] + offset,
              positions: part.position + token + 1))
        }
        body(queries)
      }
    }
    steps.add(
      LoopStage(count: context.pieces.count) { index in
        let piece = context.pieces[index]
        let part = context.parts[piece.segment]
        let tiles = part.cache.tiles(layer: layer, head: piece.head)
        guard let firstSlot = piece.firstSlot else {
          withQueries(of: piece, part) { queries in
            kernels.attend(queries, tiles: tiles, range: piece.tiles, scale: scale)
            kernels.finish(queries, headSize: width)
          }
          return
        }
        for tile in piece.tiles {
          let slot = firstSlot + tile * group
          let queries = slots.queries(slot, group)
          for head in 0..<group {
            queries[head] = AttentionQuery(
              rotated[part.rows.lowerBound] + (piece.head * group + head) * width,
              output: slots.output(slot + head, headSize: width), positions: part.position + 1)
          }
          kernels.attend(queries, tiles: tiles, range: tile..<tile + 1, scale: scale)
        }
      })
    if context.joins.count == 0 { return }
    steps.add(
      LoopStage(count: context.joins.count) { index in
        let piece = context.joins[index]
        withQueries(of: piece, context.parts[piece.segment]) { queries in
          for tile in piece.tiles {
            let later = slots.queries(piece.firstSlot! + tile * group, group)
            kernels.merge(later, into: queries, headSize: width)
          }
          kernels.finish(queries, headSize: width)
        }
      })
  }

  /// Moves the heads of a token together, as the output projection reads them.
  func removePadding(of row: UnsafeMutablePointer<Float>) {
    for head in 1..<count {
      (row + head * size).update(from: row + head * paddedSize, count: size)
    }
  }
}
