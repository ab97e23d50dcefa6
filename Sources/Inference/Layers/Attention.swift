import TensorCore

/// Grouped-query attention with rotary positions.
struct Attention: Sendable {
  let query: Linear
  let key: Linear
  let value: Linear
  let output: Linear
  let headCount: Int
  let keyValueHeadCount: Int
  let headSize: Int
  /// Factor of the scores: the configuration's multiplier, which stands in the place of 1/√headSize.
  let scale: Float
  /// Whether queries and keys are turned by their positions.
  let isRotary: Bool

  /// `output(softmax(q kᵀ · scale) v)` for every token of the chunk that begins at `position`; their
  /// keys and values enter the cache. The workspace holds the rotary angles of these positions.
  ///
  /// - Throws: ``NonFiniteActivation``.
  func apply(
    to input: Rows, position: Int, cache: LayerCache, workspace: Workspace, compute: Compute,
    into result: Rows
  ) throws(NonFiniteActivation) {
    try compute.apply(
      [(query, workspace.query), (key, workspace.key), (value, workspace.value)], to: input,
      activations: workspace.activations)
    compute.pool.parallelFor(compute.tokenCount) { token in
      rotate(token: token, position: position + token, cache: cache, workspace: workspace)
    }
    let width = cache.paddedHeadSize
    let group = headCount / keyValueHeadCount
    compute.pool.parallelFor(compute.tokenCount * headCount) { index in
      let (token, head) = (index / headCount, index % headCount)
      compute.kernels.attention(
        query: workspace.rotated[token] + head * width,
        tiles: cache.tiles(head: head / group, through: position + token),
        headSize: width, scale: scale, output: workspace.context[token] + head * width)
    }
    if width != headSize { removePadding(of: workspace.context, width: width, compute: compute) }
    try compute.apply(
      [(output, result)], to: workspace.context, activations: workspace.activations)
  }

  /// Turns the queries and keys of one token by its position; keys and values enter the cache.
  private func rotate(token: Int, position: Int, cache: LayerCache, workspace: Workspace) {
    let queries = workspace.rotated[token]
    for head in 0..<headCount {
      let padded = queries + head * cache.paddedHeadSize
      padded.update(from: workspace.query[token] + head * headSize, count: headSize)
      rotate(padded, token: token, workspace: workspace)
    }
    for head in 0..<keyValueHeadCount {
      let key = workspace.key[token] + head * headSize
      rotate(key, token: token, workspace: workspace)
      cache.store(
        key: key, value: workspace.value[token] + head * headSize, headSize: headSize, head: head,
        position: position)
    }
  }

  private func rotate(_ head: UnsafeMutablePointer<Float>, token: Int, workspace: Workspace) {
    guard isRotary else { return }
    RotaryTable.rotate(
      head, headSize: headSize, cosines: workspace.cosines[token], sines: workspace.sines[token])
  }

  /// Moves the heads of every token together, as the output projection reads them.
  private func removePadding(of rows: Rows, width: Int, compute: Compute) {
    for token in 0..<compute.tokenCount {
      for head in 1..<headCount {
        (rows[token] + head * headSize).update(
          from: rows[token] + head * width, count: headSize)
      }
    }
  }
}
