import Inference
import ModelFiles
import TensorCore

/// What quantizing single matrices does to a model, on the tokens of the first window of a calibration text.
final class Sensitivity {
  /// What the matrices are that are not probed: nearly exact.
  static let base = BlockEncoding.q8b16
  /// What the probed matrix is; its blocks are those of the base, so that activations stay the same.
  static let probe = BlockEncoding.q4b16

  private let checkpoint: Checkpoint
  private let pool: WorkerPool
  private let kernels: Kernels
  private let pass: LayerPass
  /// Residual stream before the layer that comes next.
  private var hidden: [Float]
  /// Residual stream after the last layer, exact and with the errors of each probe; their damage.
  private var last: (exact: [Float], probed: [[Float]], damage: Double) = ([], [], 0)

  /// - Parameter windowLength: tokens of the window.
  init(
    _ checkpoint: Checkpoint, windowLength: Int, pool: WorkerPool
  ) throws(ConversionError) {
    self.checkpoint = checkpoint
    self.pool = pool
    do throws(InstructionSetError) {
      kernels = try Kernels.selected()
    } catch {
      throw .calibration(.instructionSet(error))
    }
    pass = LayerPass(
      checkpoint.configuration, windowLength: windowLength, pool: pool, kernels: kernels)
    hidden = Array(repeating: 0, count: windowLength * checkpoint.configuration.hiddenSize)
  }

  /// Takes the window's part of the hidden states of a calibration.
  func enter(_ state: UnsafeRawBufferPointer) {
    hidden.withUnsafeMutableBytes {
      $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: state[..<$0.count]))
    }
  }

  /// The damage that the probe of each matrix of a step does, the others as in the base.
  func damage(
    _ kind: ConversionPlan.Step.Kind, base: [String: WeightTensor], probes: [String: WeightTensor]
  ) throws(ConversionError) -> [String: Double] {
    switch kind {
    case .layer(let layer): try damage(inLayer: layer, base: base, probes: probes)
    case .output: try damage(ofOutput: base, probes)
    case .embedding:
      checkpoint.configuration.tiedEmbeddings ? try damage(ofOutput: base, probes) : [:]
    case .vectors: [:]
    }
  }

  // MARK: - Layers

  /// Mean over tokens of the squared length of the error in the residual stream after the layer, over that
  /// of the stream.
  private func damage(
    inLayer layer: Int, base: [String: WeightTensor], probes: [String: WeightTensor]
  ) throws(ConversionError) -> [String: Double] {
    let exact = try output(ofLayer: layer, base)
    var result: [String: Double] = [:]
    for (name, probe) in probes.sorted(by: { $0.key < $1.key }) where probe.encoding == Self.probe {
      let found = try output(ofLayer: layer, base.merging([name: probe]) { $1 })
      result[name] = relativeSquare(exact, found)
      if layer == checkpoint.configuration.layerCount - 1 { last.probed.append(found) }
    }
    last.exact = exact
    last.damage = result.values.sorted().reduce(0, +)
    return result
  }

  private func output(
    ofLayer layer: Int, _ matrices: [String: WeightTensor]
  ) throws(ConversionError) -> [Float] {
    let weights: LayerWeights
    do {
      weights = try LayerWeights(
        layer: layer, configuration: checkpoint.configuration,
        weights: GivenMatrices(checkpoint: checkpoint, matrices: matrices), pool: pool)
    } catch let error as CheckpointError {
      throw .checkpoint(error)
    } catch {
      preconditionFailure("given matrices cannot fail: \(error)")
    }
    var result = hidden
    let outcome = result.withUnsafeMutableBufferPointer { rows in
      Result { () throws(InferenceError) in try pass.run(weights, over: rows) { _ in } }
    }
    if case .failure(let error) = outcome { throw .calibration(.run(error)) }
    return result
  }

  private func relativeSquare(_ exact: [Float], _ found: [Float]) -> Double {
    let width = checkpoint.configuration.hiddenSize
    let tokens = exact.count / width
    var sum = 0.0
    for token in 0..<tokens {
      var (error, energy) = (0.0, 0.0)
      for index in token * width..<(token + 1) * width {
        let difference = Double(exact[index]) - Double(found[index])
        error += difference * difference
        energy += Double(exact[index]) * Double(exact[index])
      }
      if energy > 0 { sum += error / energy }
    }
    return sum / Double(tokens)
  }

  // MARK: - Output projection

  /// The KL divergence that the probe causes, over what the probes of the last layer cause for each
  /// unit of their damage.
  private func damage(
    ofOutput base: [String: WeightTensor], _ probes: [String: WeightTensor]
  ) throws(ConversionError) -> [String: Double] {
    guard
      let (name, weights) = probes.first(where: { TensorRole(tensorName: $0.key) != .positions }),
      let matrix = base[name]?.matrices[0]
    else {
      return [:]
    }
    let probe = weights.matrices[0]
    let norm: (weight: [Float], bias: [Float]?)
    do throws(CheckpointError) {
      norm = try checkpoint.finalNorm()
    } catch {
      throw .checkpoint(error)
    }
    let exact = logits(of: last.exact, matrix, norm: norm)
    let quantized = divergence(exact, logits(of: last.exact, probe, norm: norm))
    let caused = last.probed.reduce(0.0) { sum, hidden in
      sum + divergence(exact, logits(of: hidden, matrix, norm: norm))
    }
    return [name: caused > 0 ? quantized * last.damage / caused : 0]
  }

  /// Tokens whose logits are compared, at most, at equal distances.
  private static let tokenLimit = 64

  /// Row-major, of some of the tokens.
  private func logits(
    of hidden: [Float], _ matrix: WeightMatrix, norm: (weight: [Float], bias: [Float]?)
  ) -> [Float] {
    let width = checkpoint.configuration.hiddenSize
    let tokens = hidden.count / width
    let count = min(tokens, Self.tokenLimit)
    var some = (0..<count).flatMap { index in
      let token = index * tokens / count
      return hidden[token * width..<(token + 1) * width]
    }
    let activations = Activations(maximumTokens: count, maximumColumns: width)
    let stride = matrix.geometry.paddedRows
    let output = AlignedBuffer(byteCount: count * stride * 4)
    some.withUnsafeMutableBufferPointer { rows in
      var first = 0
      pass.finish(over: rows, norm: norm.weight, bias: norm.bias) { input in
        // What is not finite has no logits, and no damage.
        try? activations.load(
          input.rows, tokenCount: input.tokenCount, inputStride: input.stride, for: matrix,
          precision: .f32, kernels: kernels, pool: pool)
        kernels.multiply(
          matrix, activations, output: output.floats + first * stride, outputStride: stride,
          pool: pool)
        first += input.tokenCount
      }
    }
    let scaling = checkpoint.configuration.logitsScaling
    return (0..<count).flatMap { token in
      UnsafeBufferPointer(start: output.floats + token * stride, count: matrix.geometry.rows).map {
        $0 / scaling
      }
    }
  }

  private func divergence(_ reference: [Float], _ found: [Float]) -> Double {
    let width = checkpoint.configuration.vocabularySize
    let count = reference.count / width
    let sum = (0..<count).reduce(0.0) { sum, token in
      let row = token * width..<(token + 1) * width
      return sum
        + reference[row].withUnsafeBufferPointer { p in
          found[row].withUnsafeBufferPointer { q in Divergence.between(p, q).divergence }
        }
    }
    return sum / Double(count)
  }
}

/// One layer's matrices, and all else from a checkpoint.
private struct GivenMatrices: WeightSource {
  let checkpoint: Checkpoint
  let matrices: [String: WeightTensor]

  var path: String { checkpoint.directory }

  func shape(ofTensor name: String) -> [Int]? { checkpoint.descriptor(named: name)?.shape }

  func matrices(named name: String, pool: WorkerPool) -> [WeightMatrix] {
    matrices[name]!.matrices
  }

  func vector(named name: String) throws -> [Float] { try checkpoint.values(named: name) }
}
