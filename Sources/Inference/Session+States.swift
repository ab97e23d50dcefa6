import TensorCore

// Models with recurrent layers: where a sequence can be taken up again.
//
// Keys and values of any prefix are at hand; a state is that of one position. So a session keeps copies
// from earlier ones, and runs the tokens behind a copy again where it has to.

extension Session {
  /// The last position up to `position` from which the session, or one that shares with it, goes on
  /// without running tokens again; `position` itself for models without recurrent layers.
  ///
  /// - Precondition: `position` is at most that of the session.
  public func restartPosition(upTo position: Int) -> Int {
    guard hasState else { return position }
    return states(upTo: position).last?.position ?? 0
  }

  /// Whether the model has recurrent layers, whose state is that of one position.
  public var hasState: Bool { model.shape.mamba != nil }

  /// Keeps a copy of the state at the session's position, if there is one: whoever begins with its
  /// tokens, and goes on differently, can start there.
  ///
  /// - Parameter limit: states that are kept at most; beyond it an earlier one is forgotten as by
  ///   ``dropKeptState()``.
  public func keepState(limit: Int = 6) {
    guard let state, state.position == position, keptStates.last?.position != position else {
      return
    }
    if keptStates.count >= limit { _ = dropKeptState() }
    let kept = RecurrentState(copying: state, isKept: true)
    kept.lastUse = lastUse
    keptStates.append(kept)
  }

  /// When the kept state that was used least recently was last used; nil without kept states. A state
  /// counts as used when a session that has it is started, from whatever position.
  public var leastRecentUse: Int? { keptStates.map(\.lastUse).min() }

  /// Forgets a kept state: of those that were used least recently the one between whose neighbours the
  /// gap is smallest beside its distance from the end, so that they are the denser the closer to it.
  ///
  /// - Returns: whether there was one.
  public func dropKeptState() -> Bool {
    guard let leastRecentUse else { return false }
    let positions = [0] + keptStates.map { $0.position! } + [position]
    let oldest = keptStates.indices.filter { keptStates[$0].lastUse == leastRecentUse }
    keptStates.remove(at: oldest.min { redundancy(positions, $0) < redundancy(positions, $1) }!)
    return true
  }

  private func redundancy(_ positions: [Int], _ index: Int) -> Double {
    // Of kept state i the position is at i + 1.
    Double(positions[index + 2] - positions[index]) / Double(1 + position - positions[index + 1])
  }

  /// Those that have seen no token behind `position`, in order of theirs.
  func states(upTo position: Int) -> [RecurrentState] {
    (keptStates + [state].compactMap { $0 }).filter {
      $0.position.map { $0 <= position } ?? false
    }
  }

  /// Brings the state to the session's position: after tokens were forgotten, after a pass that failed,
  /// and in a session that shares with another, tokens behind the last known state run again.
  ///
  /// - Throws: ``InferenceError``.
  func catchUp() throws(InferenceError) {
    guard hasState, state?.position != position else { return }
    keptStates.removeAll { $0.position! > position }
    if state?.position.map({ $0 > position }) ?? true {
      if let kept = keptStates.last {
        state = RecurrentState(copying: kept)
      } else if let state {
        state.reset()
      } else {
        state = RecurrentState(model.shape, type: cacheType, budget: budget)
      }
    }
    while let first = state?.position, first < position {
      let chunk = tokens[first..<min(first + chunkLength, position)]
      try run(chunk, at: first)
    }
  }
}
