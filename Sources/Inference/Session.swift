public import TensorCore
public import Tokenization

/// Which logits an ``Session/append(_:logits:receive:)`` computes.
public enum LogitsRequest: Sendable {
  case none
  /// Those that follow the last token.
  case last
  /// Those that follow every token.
  case all
}

/// One sequence of tokens on its way through a model: the KV cache and the scratch memory, all that
/// changes. Sessions of one model share its weights; each is used by one task at a time.
///
/// Logits depend on the tokens, on ``activations`` and ``cacheType`` alone: how the sequence is cut
/// into calls and chunks, other sequences of a ``Batch``, the number of threads and the instruction set
/// change no bit of them.
public final class Session {
  public let model: Model
  /// Positions that there is room for.
  public let contextLength: Int
  public let activations: ActivationPrecision
  /// The tokens seen so far.
  public internal(set) var tokens: [TokenID] = []
  /// Asked before every chunk; once true, `append` throws `CancellationError`.
  public var isCancelled: () -> Bool = { Task.isCancelled }
  let chunkLength: Int
  let cache: KVCache
  let budget: CacheBudget?
  /// What recurrent layers remember; made when tokens come.
  var state: RecurrentState?
  /// Copies of it from earlier positions, ascending.
  var keptStates: [RecurrentState] = []
  /// When it was started, as ``CacheBudget/uses`` counts.
  var lastUse = 0
  /// Made by the first `append`: sessions that run in batches need none.
  private lazy var pass = ForwardPass(model: model, activations: activations)

  /// - Parameters:
  ///   - contextLength: at most, and by default, what the model was made for.
  ///   - activations: how activations enter products with quantized weights.
  ///   - cacheType: how keys and values are kept; f32 for agreement with the reference.
  ///   - chunkLength: tokens that pass the layers together.
  ///   - budget: counts the tiles of the KV cache with those of other sessions.
  /// - Throws: ``InferenceError/contextLength(requested:limit:)``,
  ///   ``InferenceError/memory(of:needed:physical:)``.
  public init(
    model: Model, contextLength: Int? = nil, activations: ActivationPrecision = .int8,
    cacheType: CacheType = .f16, chunkLength: Int = Session.defaultChunkLength,
    budget: CacheBudget? = nil
  ) throws(InferenceError) {
    let contextLength = contextLength ?? model.shape.contextLength
    guard (1...model.shape.contextLength).contains(contextLength) else {
      throw .contextLength(requested: contextLength, limit: model.shape.contextLength)
    }
    try Self.checkMemory(
      model.shape, chunkLength: chunkLength, cacheType: cacheType,
      physicalByteCount: SystemMemory.physicalByteCount)
    self.model = model
    self.contextLength = contextLength
    self.activations = activations
    self.chunkLength = max(1, chunkLength)
    self.budget = budget
    cache = KVCache(shape: model.shape, type: cacheType, budget: budget)
  }

  /// A session that has seen the first `position` tokens of another one, which goes on unchanged. Their
  /// keys and values are shared, and copied a tile at a time by whichever of the two writes there; see
  /// ``restartPosition(upTo:)`` for models with recurrent layers.
  ///
  /// - Precondition: `position` is at most the other's ``position``. Sessions that share are used by
  ///   one task.
  public init(sharing other: Session, upTo position: Int) {
    model = other.model
    contextLength = other.contextLength
    activations = other.activations
    chunkLength = other.chunkLength
    tokens = Array(other.tokens[..<position])
    cache = KVCache(sharing: other.cache, positions: position)
    budget = other.budget
    keptStates = other.keptStates.filter { $0.position! <= position }
    if let last = other.states(upTo: position).last, last !== keptStates.last {
      state = RecurrentState(copying: last)
    }
    if let budget {
      budget.uses += 1
      lastUse = budget.uses
      for kept in keptStates { kept.lastUse = lastUse }
    }
  }

  /// Refuses shapes whose activations, or first tile of keys and values, would not fit into memory.
  static func checkMemory(
    _ shape: ModelShape, chunkLength: Int, cacheType: CacheType, physicalByteCount: Int
  ) throws(InferenceError) {
    let (needed, overflow) = KVCache.byteCount(shape: shape, type: cacheType, positions: 1)
      .addingReportingOverflow(
        RecurrentState.byteCount(shape)
          + Workspace.byteCount(shape: shape, tokenCapacity: chunkLength)
          + ForwardPass.logitsBatch * shape.vocabularySize * 4)
    if overflow || needed > physicalByteCount {
      throw .memory(
        of: "a chunk of \(chunkLength) tokens", needed: needed, physical: physicalByteCount)
    }
  }

  /// Long enough for the weights to be read from memory seldom, short enough for the activations of
  /// a chunk to stay in a core's cache.
  public static let defaultChunkLength = 256

  /// How keys and values are kept.
  public var cacheType: CacheType { cache.type }

  /// Shown the residual stream of a chunk's tokens, with the number of layers passed: before the first
  /// and after every one.
  var observer: ((_ depth: Int, _ hidden: Rows, _ count: Int) -> Void)? {
    get { pass.observer }
    set { pass.observer = newValue }
  }

  /// The position of the next token.
  public var position: Int { tokens.count }

  /// Bytes that the KV cache takes now, shared ones too, and the state of recurrent layers.
  public var cacheByteCount: Int {
    cache.byteCount + (state == nil ? 0 : RecurrentState.byteCount(model.shape))
  }

  /// Tiles that appending `count` tokens would allocate, the state of recurrent layers among them.
  public func newTiles(appending count: Int) -> Int {
    cache.newTiles(position + count, writingFrom: position)
      + (state == nil ? CacheBudget.stateTileCount(model.shape, cacheType) : 0)
  }

  /// Forgets all tokens from `position` on; the memory stays.
  public func truncate(to position: Int) {
    tokens.removeLast(max(0, tokens.count - max(0, position)))
  }

  /// Forgets all tokens; the memory stays.
  public func reset() { truncate(to: 0) }

  /// Appends `newTokens` to the sequence.
  ///
  /// When it throws, ``tokens`` holds the whole chunks that were computed before; a call with the
  /// others goes on from there.
  ///
  /// - Parameters:
  ///   - receive: called in order with the index in `newTokens` of a token and the logits that follow
  ///     it, one for each token of the vocabulary, valid during the call. An error that it throws is
  ///     passed on.
  /// - Throws: ``InferenceError``, `CancellationError`, and what `receive` throws.
  public func append(
    _ newTokens: some Collection<TokenID>, logits request: LogitsRequest,
    receive: (_ index: Int, _ logits: UnsafeBufferPointer<Float>) throws -> Void
  ) throws {
    let newTokens = Array(newTokens)
    try check(newTokens)
    try catchUp()
    var start = 0
    while start < newTokens.count {
      if isCancelled() { throw CancellationError() }
      let chunk = newTokens[start..<min(start + chunkLength, newTokens.count)]
      let first = position
      try run(chunk, at: first)
      tokens += chunk
      let firstWanted =
        switch request {
        case .none: chunk.endIndex
        case .last: chunk.endIndex == newTokens.count ? chunk.endIndex - 1 : chunk.endIndex
        case .all: chunk.startIndex
        }
      for index in stride(from: firstWanted, to: chunk.endIndex, by: ForwardPass.logitsBatch) {
        let rows = index - start..<min(index - start + ForwardPass.logitsBatch, chunk.count)
        let logits = try attributing(to: { first + rows.lowerBound + $0 }) {
          () throws(PassFailure) in try pass.logits(of: Array(rows))
        }
        for (row, logits) in zip(rows, logits) {
          guard let logits else { throw InferenceError.nonFiniteLogits(position: first + row) }
          try receive(start + row, logits)
        }
      }
      start = chunk.endIndex
    }
  }

  /// Takes tokens through the layers.
  func run(_ chunk: ArraySlice<TokenID>, at position: Int) throws(InferenceError) {
    try attributing(to: { position + $0 }) { () throws(PassFailure) in
      try pass.run([
        Segment(tokens: chunk, position: position, cache: cache, state: state, row: 0)
      ])
    }
  }

  /// Runs `body`; a failure of a row becomes an error at its position.
  private func attributing<T>(
    to position: (_ row: Int) -> Int, _ body: () throws(PassFailure) -> T
  ) throws(InferenceError) -> T {
    do throws(PassFailure) {
      return try body()
    } catch {
      throw error.error(position: position(error.row), cacheType: cacheType)
    }
  }

  /// Appends `newTokens` without computing logits; see ``append(_:logits:receive:)``.
  public func append(_ newTokens: some Collection<TokenID>) throws {
    try append(newTokens, logits: .none) { _, _ in }
  }

  /// Appends `newTokens`, at least one, and returns the logits that follow the last.
  public func logits(appending newTokens: some Collection<TokenID>) throws -> [Float] {
    var result: [Float] = []
    try append(newTokens, logits: .last) { result = Array($1) }
    return result
  }

  /// - Throws: ``InferenceError/tokenOutOfRange(token:index:vocabularySize:)``,
  ///   ``InferenceError/contextExceeded(needed:limit:)``.
  func check(_ newTokens: [TokenID]) throws(InferenceError) {
    let vocabularySize = model.shape.vocabularySize
    for (index, token) in newTokens.enumerated() where !(0..<vocabularySize).contains(Int(token)) {
      throw .tokenOutOfRange(token: Int(token), index: index, vocabularySize: vocabularySize)
    }
    let needed = tokens.count + newTokens.count
    if needed > contextLength { throw .contextExceeded(needed: needed, limit: contextLength) }
  }
}
