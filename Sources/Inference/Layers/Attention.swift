import Synchronization
import TensorCore

/// Grouped-query attention, with rotary positions or without.
struct Attention: Sendable {
  /// The projections of what attention reads, as checkpoints hold them.
  enum Input: Sendable {
    case separate(query: Linear, key: Linear, value: Linear)
    /// One matrix: the rows of query, then those of key and of value.
    case fused(Linear)

    var linears: [Linear] {
      switch self {
      case .separate(let query, let key, let value): [query, key, value]
      case .fused(let all): [all]
      }
    }
  }

  let input: Input
  let output: Linear
  let headCount: Int
  let keyValueHeadCount: Int
  let headSize: Int
  /// Factor of the scores: the configuration's multiplier, which stands in the place of 1/√headSize.
  let scale: Float
  /// Whether queries and keys are turned by their positions.
  let isRotary: Bool

  /// `output(softmax(q kᵀ · scale) v)` for every token of the segments; their keys and values enter
  /// the caches. The workspace holds the rotary angles of their positions.
  ///
  /// - Parameters:
  ///   - prepare: computes a row of the input.
  ///   - finish: what is done with results.
  /// - Throws: ``PassFailure``.
  func apply(
    to input: Rows, layer: Int, segments: [Segment], plan: AttentionPlan, workspace: Workspace,
    compute: Compute, into result: Rows, preparing prepare: @escaping (_ token: Int) -> Void,
    finishing finish: RowFinish?
  ) throws(PassFailure) {
    let key: Rows
    let value: Rows
    switch self.input {
    case .separate(let queryLayer, let keyLayer, let valueLayer):
      (key, value) = (workspace.key, workspace.value)
      try compute.apply(
        [(queryLayer, workspace.query), (keyLayer, key), (valueLayer, value)], to: input,
        .attention, activations: workspace.activations, preparing: prepare)
    case .fused(let layer):
      let all = workspace.query
      key = Rows(all.pointer + headCount * headSize, stride: all.stride)
      value = Rows(key.pointer + keyValueHeadCount * headSize, stride: all.stride)
      try compute.apply(
        [(layer, all)], to: input, .attention, activations: workspace.activations,
        preparing: prepare)
    }
    for segment in segments {
      try enter(
        segment, key: key, value: value, layer: layer, workspace: workspace, compute: compute)
    }
    attend(segments, layer: layer, plan: plan, workspace: workspace, compute: compute)
    if padded(headSize) != headSize { removePadding(of: workspace.context, compute: compute) }
    try compute.apply(
      [(output, result)], to: workspace.context, .attentionOutput,
      activations: workspace.activations, finishing: finish)
  }

  /// Turns queries and keys by their positions; keys and values enter the cache.
  private func enter(
    _ segment: Segment, key: Rows, value: Rows, layer: Int, workspace: Workspace,
    compute: Compute
  ) throws(PassFailure) {
    let firstBad = Atomic<Int>(.max)
    // Neighbours share lines of the cache, so a thread takes several.
    compute.pool.parallelRanges(segment.tokens.count, minimum: 16) { tokens in
      for token in tokens {
        let row = segment.row + token
        rotate(row: row, key: key, workspace: workspace)
        for head in 0..<keyValueHeadCount {
          let (tile, position) = (segment.position + token).quotientAndRemainder(
            dividingBy: AttentionTile.positions)
          let fits = compute.kernels.enter(
            key: key[row] + head * headSize, value: value[row] + head * headSize, size: headSize,
            position: position,
            tile: segment.cache.tiles(layer: layer, head: head)[tile])
          if !fits { firstBad.min(row, ordering: .relaxed) }
        }
      }
    }
    let bad = firstBad.load(ordering: .relaxed)
    if bad < .max { throw PassFailure(row: bad, reason: .cache) }
  }

  private func rotate(row: Int, key: Rows, workspace: Workspace) {
    let queries = workspace.rotated[row]
    for head in 0..<headCount {
      let place = queries + head * padded(headSize)
      place.update(from: workspace.query[row] + head * headSize, count: headSize)
      rotate(place, row: row, workspace: workspace)
    }
    for head in 0..<keyValueHeadCount {
      rotate(key[row] + head * headSize, row: row, workspace: workspace)
    }
  }

  private func rotate(_ head: UnsafeMutablePointer<Float>, row: Int, workspace: Workspace) {
    guard isRotary else { return }
    RotaryTable.rotate(
      head, headSize: headSize, cosines: workspace.cosines[row], sines: workspace.sines[row])
  }

  /// Results of attention for all rows, from their rotated queries and the caches.
  func attend(
    _ segments: [Segment], layer: Int, plan: AttentionPlan, workspace: Workspace, compute: Compute
  ) {
    let (kernels, slots) = (compute.kernels, workspace.slots)
    let (width, group) = (padded(headSize), headCount / keyValueHeadCount)
    slots.reserve(plan.slotCount, headSize: width)
    compute.pool.parallelFor(plan.pieces.count) { index in
      let piece = plan.pieces[index]
      let segment = segments[piece.segment]
      let tiles = segment.cache.tiles(layer: layer, head: piece.head)
      guard let firstSlot = piece.firstSlot else {
        withQueries(of: piece, in: segment, workspace: workspace) { queries in
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
            workspace.rotated[segment.row] + (piece.head * group + head) * width,
            output: slots.output(slot + head, headSize: width), positions: segment.position + 1)
        }
        kernels.attend(queries, tiles: tiles, range: tile..<tile + 1, scale: scale)
      }
    }
    compute.pool.parallelFor(plan.joins.count) { index in
      let piece = plan.joins[index]
      withQueries(of: piece, in: segments[piece.segment], workspace: workspace) { queries in
        for tile in piece.tiles {
          let later = slots.queries(piece.firstSlot! + tile * group, group)
          kernels.merge(later, into: queries, headSize: width)
        }
        kernels.finish(queries, headSize: width)
      }
    }
  }

  /// The queries of a piece, all heads of a token together, with results that go to the context.
  private func withQueries(
    of piece: AttentionPlan.Piece, in segment: Segment, workspace: Workspace,
    _ body: (UnsafeMutableBufferPointer<AttentionQuery>) -> Void
  ) {
    let (width, group) = (padded(headSize), headCount / keyValueHeadCount)
    let count = piece.tokens.count * group
    withUnsafeTemporaryAllocation(of: AttentionQuery.self, capacity: count) { queries in
      for index in 0..<count {
        let token = piece.tokens.lowerBound + index / group
        let offset = (piece.head * group + index % group) * width
        queries.initializeElement(
          at: index,
          to: AttentionQuery(
            workspace.rotated[segment.row + token] + offset,
            output: workspace.context[segment.row + token] + offset,
            positions: segment.position + token + 1))
      }
      body(queries)
    }
  }

  /// Moves the heads of every token together, as the output projection reads them.
  private func removePadding(of rows: Rows, compute: Compute) {
    compute.pool.parallelFor(compute.tokenCount) { token in
      for head in 1..<headCount {
        (rows[token] + head * headSize).update(
          from: rows[token] + head * padded(headSize), count: headSize)
      }
    }
  }
}
