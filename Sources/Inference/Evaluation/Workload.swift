public import TensorCore

/// What one token costs a model, whatever runs it: the terms in which ceilings are stated.
public struct Workload: Sendable, Equatable {
  /// Weights of the linear layers, without embedding and output projection. A token of a prompt
  /// multiplies and adds each once.
  public let linearWeightCount: Int
  /// Stored bytes that a decoded token reads: linear layers, norms and output projection.
  public let weightByteCount: Int
  /// Bytes of keys and values of a position in all layers; a decoded token reads those of all
  /// positions up to its own.
  public let cacheBytesPerPosition: Int
  /// Bytes of the states of recurrent layers; a decoded token reads and writes them.
  public let stateByteCount: Int

  /// Bytes that decoding one token moves: weights, keys and values of the `positions` before it, and the
  /// states, which are read and written.
  public func decodedByteCount(positions: Double) -> Double {
    Double(weightByteCount + 2 * stateByteCount) + positions * Double(cacheBytesPerPosition)
  }
}

extension Model {
  /// What a token costs this model.
  ///
  /// - Parameter cacheType: of the sessions that run it.
  public func workload(cacheType: CacheType = .f16) -> Workload {
    let linears = decoder.layers.flatMap(\.linears)
    let norms = decoder.layers.flatMap { [$0.inputNorm, $0.postAttentionNorm] } + [decoder.norm]
    let positions = 1 << 16
    return Workload(
      linearWeightCount: linears.reduce(0) {
        $0 + $1.weight.geometry.rows * $1.weight.geometry.columns
      },
      weightByteCount: (linears + [decoder.output]).reduce(0) { $0 + $1.byteCount }
        + norms.reduce(0) { $0 + ($1.bias == nil ? 4 : 8) * $1.count },
      cacheBytesPerPosition: KVCache.byteCount(
        shape: shape, type: cacheType, positions: positions) / positions,
      stateByteCount: RecurrentState.byteCount(shape))
  }
}

extension DecoderLayer {
  /// Those that a token meets: of the experts as many as it is sent to.
  fileprivate var linears: [Linear] {
    let mixers =
      switch mixer {
      case .attention(let attention): attention.input.linears + [attention.output]
      case .mamba(let mamba): [mamba.input, mamba.output]
      }
    return mixers + (feedForward.mlp?.linears ?? []) + (feedForward.experts?.linears ?? [])
  }
}

extension MLP {
  fileprivate var linears: [Linear] {
    switch input {
    case .plain(let up): [up, down]
    case .separate(let gate, let up): [gate, up, down]
    case .fused(let both): [both, down]
    }
  }
}

extension Experts {
  fileprivate var linears: [Linear] {
    ([router] + gateUp.matrices.prefix(usedCount) + down.matrices.prefix(usedCount)).map {
      Linear(weight: $0, bias: nil)
    }
  }
}

extension Linear {
  fileprivate var byteCount: Int {
    weight.geometry.byteCount(in: weight.encoding) + 4 * (bias?.count ?? 0)
      + (weight.columnScales == nil ? 0 : 4 * weight.geometry.columns)
  }
}
