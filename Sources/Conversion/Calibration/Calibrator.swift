import Inference
import ModelFiles
import Quantization
import TensorCore
import Tokenization

/// Finds importance and column scales of the matrices of one step after the other, in the order of a
/// plan.
final class Calibrator {
  /// A group of matrices, and how its columns count.
  struct Weighting {
    let group: InputGroup
    /// Of the columns of the input; of one that every expert has of its own, expert by expert.
    let importance: [Float]
    /// Of the same columns as each expert sees them, expert by expert.
    let expertImportance: [Float]
    /// Nil where columns stay as they are.
    let scales: ColumnScales?

    /// The importance of the columns of each matrix of a tensor.
    func importance(of entry: ConversionPlan.Entry) -> [[Float]] {
      if !entry.role.isOfExperts { return [importance] }
      let (all, count) = (expertImportance, entry.tensor.shape.last!)
      return stride(from: 0, to: all.count, by: count).map { Array(all[$0..<$0 + count]) }
    }
  }

  private let checkpoint: Checkpoint
  private let pool: WorkerPool
  private let kernels: Kernels
  /// Nil where statistics are given.
  let run: CalibrationRun?
  /// What has been seen so far; of what experts saw of their own, that of the last layer alone, unless
  /// everything is to be kept.
  var statistics: ImportanceStatistics
  private let keepsAll: Bool

  /// Reads weights of the embedding only.
  ///
  /// - Parameter keepsAll: whether all statistics are wanted in the end. Those of experts are large, and
  ///   of no use once their layer is converted.
  init(
    _ checkpoint: Checkpoint, source: PreparedCalibration.Source, pool: WorkerPool,
    keepsAll: Bool = false, isCancelled: @escaping @Sendable () -> Bool
  ) throws(ConversionError) {
    self.keepsAll = keepsAll
    self.checkpoint = checkpoint
    self.pool = pool
    do throws(InstructionSetError) {
      kernels = try Kernels.selected()
    } catch {
      throw .calibration(.instructionSet(error))
    }
    switch source {
    case .statistics(let statistics):
      self.statistics = statistics
      run = nil
    case .tokens(let tokens):
      statistics = ImportanceStatistics(origin: tokens.origin)
      run = try CalibrationRun(
        checkpoint, tokens: tokens, pool: pool, kernels: kernels, isCancelled: isCancelled)
    }
  }

  /// Runs what a step's weights need: the layer, or after the last one the final norm.
  ///
  /// - Parameter progress: called while a layer runs, with it, the tokens behind it, and all.
  func advance(
    to kind: ConversionPlan.Step.Kind,
    progress: (_ layer: Int, _ done: Int, _ count: Int) -> Void = { _, _, _ in }
  ) throws(ConversionError) {
    guard let run else { return }
    if !keepsAll { statistics.forgetInputsOfExperts() }
    switch kind {
    case .layer(let layer):
      let moments = try run.run(layer: layer) { progress(layer, $0, $1) }
      statistics.moments.merge(moments) { $1 }
    case .vectors:
      statistics.moments[LinearInput.output.name(layer: nil)] = try run.finish()
    case .output, .embedding: break
    }
  }

  /// How the columns of a step's matrices count; the calibrator has advanced to the step.
  func weightings(of step: ConversionPlan.Step) throws(ConversionError) -> [Weighting] {
    var result: [Weighting] = []
    for group in InputGroup.groups(
      of: step, tiedEmbeddings: checkpoint.configuration.tiedEmbeddings)
    {
      let importance = statistics.moments[group.name]!
      let expertInput: LinearInput = group.input == .mlp ? .experts : group.input
      result.append(
        Weighting(
          group: group, importance: importance,
          expertImportance: statistics.moments[expertInput.name(layer: group.layer)] ?? [],
          scales: group.mayBeScaled ? try scales(group, importance) : nil))
    }
    return result
  }

  private func scales(
    _ group: InputGroup, _ importance: [Float]
  ) throws(ConversionError) -> ColumnScales? {
    var matrices: [(source: MatrixView, encoding: BlockEncoding)] = []
    for entry in group.entries {
      guard let encoding = entry.encoding, encoding.isQuantized else { continue }
      do throws(CheckpointError) {
        matrices.append((try checkpoint.rows(named: entry.tensor.name), encoding))
      } catch {
        throw .checkpoint(error)
      }
    }
    if matrices.isEmpty { return nil }
    let outcome = Result { () throws(QuantizationError) in
      try ColumnScaling.exponent(
        for: matrices, importance: importance, inputs: Self.inputs(importance), kernels: kernels,
        pool: pool)
    }
    switch outcome {
    case .success(0): return nil
    case .success(let exponent):
      let scales = ColumnScaling.scales(importance: importance, exponent: exponent)
      let isApplicable = matrices.allSatisfy {
        ColumnScaling.keepsFinite($0.source, dividedBy: scales, pool: pool)
      }
      return isApplicable ? scales : nil
    // A weight that is not finite: encoding the whole matrix says where.
    case .failure(.nonFinite): return nil
    case .failure(let error):
      throw .quantization(tensor: group.entries[0].tensor.name, error)
    }
  }

  /// Tokens to try column scales on: heavy-tailed noise with the mean squares of an input.
  ///
  /// Those of the text itself choose no better (SmolLM2, two dithers), and would have to be kept in
  /// statistics.
  private static func inputs(_ importance: [Float]) -> [Float] {
    let deviations = importance.map { $0.squareRoot() }
    let noise = Noise(seed: 0, stream: 0)
    return (0..<64 * deviations.count).map {
      StudentT.quantiles[Int(noise[$0] & 0xFFFF)] * deviations[$0 % deviations.count]
    }
  }
}
