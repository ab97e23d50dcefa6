import Inference
import ModelFiles
import TensorCore

/// A calibration text on its way through a checkpoint: the hidden states of all its tokens, which pass
/// one layer after the other.
final class CalibrationRun {
  private let checkpoint: Checkpoint
  private let pool: WorkerPool
  private let isCancelled: @Sendable () -> Bool
  private let pass: LayerPass
  /// Tokens of each window.
  private let lengths: [Int]
  /// Of all tokens, row-major.
  private let hidden: AlignedBuffer

  /// Embeds the tokens.
  init(
    _ checkpoint: Checkpoint, tokens: CalibrationTokens, pool: WorkerPool, kernels: Kernels,
    isCancelled: @escaping @Sendable () -> Bool
  ) throws(ConversionError) {
    let configuration = checkpoint.configuration
    self.checkpoint = checkpoint
    self.pool = pool
    self.isCancelled = isCancelled
    lengths = tokens.windows.map(\.count)
    pass = LayerPass(
      configuration, windowLength: lengths.max() ?? 1, pool: pool, kernels: kernels)
    let width = configuration.hiddenSize
    hidden = AlignedBuffer(byteCount: tokens.count * width * 4)
    let embedding: MatrixView
    let positions: MatrixView?
    do throws(CheckpointError) {
      embedding = try checkpoint.matrix(named: configuration.embeddingName)
      positions =
        configuration.learnsPositions
        ? try checkpoint.matrix(named: ModelConfiguration.positionsName) : nil
    } catch {
      throw .checkpoint(error)
    }
    let rows = tokens.windows.flatMap { window in
      window.enumerated().map { (token: Int($1), position: $0) }
    }
    pool.parallelFor(rows.count) { index in
      let row = hidden.floats + index * width
      embedding.copyRow(rows[index].token, into: row)
      for feature in 0..<width { row[feature] *= configuration.embeddingMultiplier }
      guard let positions else { return }
      withUnsafeTemporaryAllocation(of: Float.self, capacity: width) { learned in
        positions.copyRow(rows[index].position, into: learned.baseAddress!)
        for feature in 0..<width { row[feature] += learned[feature] }
      }
    }
    checkpoint.release(checkpoint.descriptor(named: configuration.embeddingName)!)
  }

  /// Takes all tokens through layer `index`, which must be the next one.
  ///
  /// - Parameter progress: called before the first window and after each, with the tokens that are done
  ///   and all.
  /// - Returns: what statistics have of the layer: the mean squares of what its linear layers read.
  func run(
    layer index: Int, progress: (_ done: Int, _ count: Int) -> Void
  ) throws(ConversionError) -> [String: [Float]] {
    let tokenCount = lengths.reduce(0, +)
    progress(0, tokenCount)
    let configuration = checkpoint.configuration
    let weights: LayerWeights
    do {
      weights = try LayerWeights(
        layer: index, configuration: configuration,
        weights: CheckpointLayer(checkpoint: checkpoint, isCancelled: isCancelled), pool: pool)
    } catch let error as ConversionError {
      throw error
    } catch let error as CheckpointError {
      throw .checkpoint(error)
    } catch let error as InferenceError {
      throw .calibration(.run(error))
    } catch {
      preconditionFailure("a checkpoint layer throws nothing else: \(error)")
    }
    var moments = LayerMoments(layer: index, configuration)
    var done = 0
    for (window, length) in zip(windows, lengths) {
      if isCancelled() { throw .cancelled(path: checkpoint.directory) }
      do throws(InferenceError) {
        try pass.run(weights, over: window) { moments.add($0, pool: pool) }
      } catch {
        throw .calibration(.run(error))
      }
      done += length
      progress(done, tokenCount)
    }
    return moments.statistics(layer: index)
  }

  /// After the last layer: the mean squares of what the output projection reads.
  func finish() throws(ConversionError) -> [Float] {
    let norm: (weight: [Float], bias: [Float]?)
    do throws(CheckpointError) {
      norm = try checkpoint.finalNorm()
    } catch {
      throw .checkpoint(error)
    }
    var moments = SecondMoments(columns: checkpoint.configuration.hiddenSize)
    for window in windows {
      pass.finish(over: window, norm: norm.weight, bias: norm.bias) { moments.add($0, pool: pool) }
    }
    return moments.means()
  }

  /// The hidden states of one window after the other.
  private var windows: [UnsafeMutableBufferPointer<Float>] {
    let width = checkpoint.configuration.hiddenSize
    var first = 0
    return lengths.map { length in
      defer { first += length * width }
      return UnsafeMutableBufferPointer(start: hidden.floats + first, count: length * width)
    }
  }
}

extension CalibrationRun {
  /// The hidden states that enter the next layer: all that a calibration must know to go on.
  var state: UnsafeRawBufferPointer { hidden.bytes }

  /// Goes on from saved hidden states.
  ///
  /// - Throws: ``CalibrationError/state`` if they are not those of as many tokens.
  func restore(_ state: UnsafeRawBufferPointer) throws(CalibrationError) {
    guard state.count == hidden.byteCount else { throw .state }
    hidden.base.copyMemory(from: state.baseAddress!, byteCount: state.count)
  }
}

extension Checkpoint {
  /// Weight and, where there is one, bias of the norm after the last layer.
  func finalNorm() throws(CheckpointError) -> (weight: [Float], bias: [Float]?) {
    let name = configuration.finalNormName
    return (
      try values(named: name + ".weight"),
      configuration.hasLayerNorm ? try values(named: name + ".bias") : nil
    )
  }
}
