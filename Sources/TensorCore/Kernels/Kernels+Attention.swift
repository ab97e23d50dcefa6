import CKernels

/// One query on its way through the tiles of a KV head, in order of position.
public struct AttentionQuery: @unchecked Sendable {  // of one worker at a time
  fileprivate var state: ck_query

  /// - Parameters:
  ///   - values: as many as the padded size of a head, zeros included.
  ///   - output: receives as many; complete after ``Kernels/finish(_:headSize:)``.
  ///   - positions: that it attends to, from position 0 on.
  public init(
    _ values: UnsafePointer<Float>, output: UnsafeMutablePointer<Float>, positions: Int
  ) {
    state = ck_query(
      values: values, codes: nil, output: output, scale: 0, maximum: -.infinity, sum: 0, count: 0,
      positions: Int64(positions))
  }
}

extension Kernels {
  /// Enters the key and the value of one position of a tile, `size` elements each; false where one
  /// is not finite or too large. See ``Reference/enter(key:value:size:position:tile:)``.
  public func enter(
    key: UnsafePointer<Float>, value: UnsafePointer<Float>, size: Int, position: Int,
    tile: AttentionTile
  ) -> Bool {
    precondition(size <= tile.headSize && position < AttentionTile.positions)
    guard let table else {
      return Reference.enter(key: key, value: value, size: size, position: position, tile: tile)
    }
    var memory = ck_cache_tile(tile, next: tile)
    return table.pointee.enter(
      &memory, key, value, Int64(size), Int64(tile.headSize), Int64(position))
  }

  /// Takes queries of one KV head through consecutive tiles, which join what the queries have
  /// gathered from the tiles before. See ``Reference/attend(query:tile:count:scale:)``.
  ///
  /// - Parameters:
  ///   - queries: in ascending order of the positions that they attend to; some dozens at most.
  ///   - range: which of the tiles; tile t begins at position 256 · t.
  ///   - scale: factor of the scores.
  public func attend(
    _ queries: UnsafeMutableBufferPointer<AttentionQuery>, tiles: AttentionTiles,
    range: Range<Int>, scale: Float
  ) {
    guard let table else {
      return attendPortably(queries, tiles: tiles, range: range, scale: scale)
    }
    // A query is its state, no more.
    let states = UnsafeMutableRawPointer(queries.baseAddress!).assumingMemoryBound(
      to: ck_query.self)
    let codesPerQuery = tiles.type == .q8 ? tiles.headSize : 0
    withUnsafeTemporaryAllocation(of: Int8.self, capacity: queries.count * codesPerQuery) { codes in
      if codesPerQuery > 0 {
        for index in queries.indices {
          let place = codes.baseAddress! + index * codesPerQuery
          states[index].codes = UnsafePointer(place)
          states[index].scale = table.pointee.quantize_query(
            states[index].values, Int64(codesPerQuery), place)
        }
      }
      for index in range {
        var memory = ck_cache_tile(
          tiles[index], next: tiles[index + 1 < range.upperBound ? index + 1 : range.lowerBound])
        table.pointee.attend(
          &memory, Int64(index * AttentionTile.positions), states, Int64(queries.count),
          Int64(tiles.headSize), scale)
      }
    }
  }

  private func attendPortably(
    _ queries: UnsafeMutableBufferPointer<AttentionQuery>, tiles: AttentionTiles,
    range: Range<Int>, scale: Float
  ) {
    for index in range {
      let before = index * AttentionTile.positions
      for query in queries.indices where queries[query].state.positions > before {
        let count = min(Int(queries[query].state.positions) - before, AttentionTile.positions)
        let part = Reference.attend(
          query: queries[query].state.values, tile: tiles[index], count: count, scale: scale)
        queries[query].join(part)
      }
    }
  }

  /// Adds what queries gathered from later tiles to what `queries` gathered before, one by one. See
  /// ``Reference/merge(_:into:)``.
  public func merge(
    _ later: UnsafeMutableBufferPointer<AttentionQuery>,
    into queries: UnsafeMutableBufferPointer<AttentionQuery>, headSize: Int
  ) {
    precondition(later.count == queries.count)
    for index in queries.indices {
      let part = later[index].state
      if let table {
        withUnsafePointer(to: part) {
          table.pointee.merge(&queries[index].state, $0, 1, Int64(headSize))
        }
      } else {
        let output = Array(UnsafeBufferPointer(start: part.output, count: headSize))
        queries[index].join(.init(maximum: part.maximum, sum: part.sum, output: output))
      }
    }
  }

  /// Divides weighted sums of values by the sums of weights.
  public func finish(_ queries: UnsafeMutableBufferPointer<AttentionQuery>, headSize: Int) {
    for query in queries {
      let (output, sum) = (query.state.output!, query.state.sum)
      if let table {
        table.pointee.divide(output, sum, Int64(headSize))
      } else {
        for d in 0..<headSize { output[d] /= sum }
      }
    }
  }
}

extension AttentionQuery {
  /// ``Reference/merge(_:into:)`` on what this query has gathered.
  fileprivate mutating func join(_ later: Reference.PartialAttention) {
    let headSize = later.output.count
    var all: Reference.PartialAttention? = Reference.PartialAttention(
      maximum: state.maximum, sum: state.sum,
      output: Array(UnsafeBufferPointer(start: state.output, count: headSize)))
    Reference.merge(later, into: &all)
    guard let all else { return }
    (state.maximum, state.sum) = (all.maximum, all.sum)
    state.output.update(from: all.output, count: headSize)
  }
}

extension ck_cache_tile {
  fileprivate init(_ tile: AttentionTile, next: AttentionTile) {
    let type =
      switch tile.type {
      case .f32: CK_CACHE_F32
      case .f16: CK_CACHE_F16
      case .q8: CK_CACHE_Q8
      }
    self.init(
      keys: tile.keys, values: tile.values, key_scales: tile.type == .q8 ? tile.keyScales : nil,
      value_scales: tile.type == .q8 ? tile.valueScales : nil, type: Int32(type), next: next.keys)
  }
}
