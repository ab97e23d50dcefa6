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
/// Logits depend on the tokens and on ``activations`` alone: how the sequence is cut into calls and
/// chunks, the number of threads and the instruction set change no bit of them.
public final class Session {
  public let model: Model
  /// Positions that there is room for.
  public let contextLength: Int
  public let activations: ActivationPrecision
  /// The tokens seen so far.
  public private(set) var tokens: [TokenID] = []
  /// Asked before every chunk; once true, `append` throws `CancellationError`.
  public var isCancelled: () -> Bool = { Task.isCancelled }
  private let chunkLength: Int
  private let cache: KVCache
  private var workspace: Workspace
  private var logitsBuffer: AlignedBuffer
  /// Tokens whose logits are computed together: few, for a row has the length of the vocabulary.
  private static let logitsBatch = 16

  /// - Parameters:
  ///   - contextLength: at most, and by default, what the model was made for.
  ///   - activations: how activations enter products with quantized weights.
  ///   - chunkLength: tokens that pass the layers together.
  /// - Throws: ``InferenceError/contextLength(requested:limit:)``,
  ///   ``InferenceError/memory(of:needed:physical:)``.
  public init(
    model: Model, contextLength: Int? = nil, activations: ActivationPrecision = .int8,
    chunkLength: Int = Session.defaultChunkLength
  ) throws(InferenceError) {
    let contextLength = contextLength ?? model.shape.contextLength
    guard (1...model.shape.contextLength).contains(contextLength) else {
      throw .contextLength(requested: contextLength, limit: model.shape.contextLength)
    }
    try Self.checkMemory(
      model.shape, chunkLength: chunkLength, physicalByteCount: SystemMemory.physicalByteCount)
    self.model = model
    self.contextLength = contextLength
    self.activations = activations
    self.chunkLength = max(1, chunkLength)
    cache = KVCache(shape: model.shape)
    workspace = Workspace(shape: model.shape, tokenCapacity: 1)
    logitsBuffer = AlignedBuffer(byteCount: 0)
  }

  /// Refuses shapes whose activations, or first tile of keys and values, would not fit into memory.
  static func checkMemory(
    _ shape: ModelShape, chunkLength: Int, physicalByteCount: Int
  ) throws(InferenceError) {
    let needed =
      Workspace.byteCount(shape: shape, tokenCapacity: chunkLength)
      + KVCache.byteCount(shape: shape, positions: 1) + logitsBatch * shape.vocabularySize * 4
    if needed > physicalByteCount {
      throw .memory(
        of: "a chunk of \(chunkLength) tokens", needed: needed, physical: physicalByteCount)
    }
  }

  /// Long enough for the weights to be read from memory seldom, short enough for the activations of
  /// a chunk to stay in a core's cache.
  public static let defaultChunkLength = 256

  /// The position of the next token.
  public var position: Int { tokens.count }

  /// Bytes that the KV cache takes now.
  public var cacheByteCount: Int { cache.byteCount }

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
    var start = 0
    while start < newTokens.count {
      if isCancelled() { throw CancellationError() }
      let chunk = newTokens[start..<min(start + chunkLength, newTokens.count)]
      try forward(chunk)
      let firstWanted =
        switch request {
        case .none: chunk.endIndex
        case .last: chunk.endIndex == newTokens.count ? chunk.endIndex - 1 : chunk.endIndex
        case .all: chunk.startIndex
        }
      let first = position
      tokens += chunk
      for index in stride(from: firstWanted, to: chunk.endIndex, by: Self.logitsBatch) {
        let batch = index..<min(index + Self.logitsBatch, chunk.endIndex)
        try computeLogits(
          rows: batch.lowerBound - start, count: batch.count,
          position: first + batch.lowerBound - start
        ) { try receive(batch.lowerBound + $0, $1) }
      }
      start = chunk.endIndex
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

  private func check(_ newTokens: [TokenID]) throws(InferenceError) {
    let vocabularySize = model.shape.vocabularySize
    for (index, token) in newTokens.enumerated() where !(0..<vocabularySize).contains(Int(token)) {
      throw .tokenOutOfRange(token: Int(token), index: index, vocabularySize: vocabularySize)
    }
    let needed = tokens.count + newTokens.count
    if needed > contextLength { throw .contextExceeded(needed: needed, limit: contextLength) }
  }

  private func compute(tokenCount: Int) -> Compute {
    Compute(
      kernels: model.kernels, pool: model.pool, precision: activations, tokenCount: tokenCount)
  }

  private func forward(_ chunk: ArraySlice<TokenID>) throws(InferenceError) {
    if workspace.tokenCapacity < chunk.count {
      workspace = Workspace(shape: model.shape, tokenCapacity: chunk.count)
    }
    cache.reserve(position + chunk.count)
    try model.decoder.forward(
      chunk, position: position, cache: cache, workspace: workspace,
      compute: compute(tokenCount: chunk.count))
  }

  /// The logits of the last chunk's tokens from `first` on; `position` is that of the first.
  private func computeLogits(
    rows first: Int, count: Int, position: Int,
    receive: (Int, UnsafeBufferPointer<Float>) throws -> Void
  ) throws {
    let decoder = model.decoder
    let stride = decoder.output.weight.geometry.paddedRows
    if logitsBuffer.byteCount < count * stride * 4 {
      logitsBuffer = AlignedBuffer(byteCount: count * stride * 4)
    }
    let logits = Rows(logitsBuffer.floats, stride: stride)
    let hidden = Rows(workspace.hidden[first], stride: workspace.hidden.stride)
    do throws(NonFiniteActivation) {
      try decoder.logits(
        of: hidden, workspace: workspace, compute: compute(tokenCount: count), into: logits)
    } catch {
      throw InferenceError.nonFiniteActivation(position: position + error.token, layer: nil)
    }
    for row in 0..<count {
      let values = UnsafeBufferPointer(start: logits[row], count: model.shape.vocabularySize)
      guard values.allFinite else {
        throw InferenceError.nonFiniteLogits(position: position + row)
      }
      try receive(row, values)
    }
  }
}

extension UnsafeBufferPointer<Float> {
  /// Whether no element is infinite or not a number.
  fileprivate var allFinite: Bool {
    var exponents: UInt32 = 0
    // An exponent of all ones, plus one in its last place, carries into the sign bit.
    for value in self { exponents |= (value.bitPattern & 0x7FFF_FFFF) &+ 0x0080_0000 }
    return exponents & 0x8000_0000 == 0
  }
}
