import Inference
public import ModelFiles
import Quantization
public import TensorCore

/// The first of the two passes that a conversion to a size takes: quantizes every matrix in every candidate
/// encoding, a decoder layer at a time, and finds what each does to the model.
///
/// The cost of an encoding is the damage that it is predicted to do, all others unquantized: its relative
/// error, in squares weighted by importance, times the sensitivity of the matrix. That of a matrix of a
/// layer is found by running the layer with and without a quantized form of it, on tokens of the
/// calibration text: how much of the residual stream after the layer becomes error. That of the output
/// projection is a KL divergence, brought to the same unit by that of errors in the last layer. Without a text every matrix is as sensitive as
/// the others.
public struct CostMeasurement: Sendable {
  private let checkpoint: Checkpoint
  private let calibration: Calibration
  private let pool: WorkerPool
  private let progress: @Sendable (_ done: Int, _ total: Int) -> Void
  private let isCancelled: @Sendable () -> Bool

  /// - Parameters:
  ///   - progress: called with the bytes of source tensors that are done and those of all.
  ///   - isCancelled: asked often, on any thread.
  public init(
    checkpoint: Checkpoint, calibration: Calibration, pool: WorkerPool,
    progress: @escaping @Sendable (_ done: Int, _ total: Int) -> Void = { _, _ in },
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) {
    self.checkpoint = checkpoint
    self.calibration = calibration
    self.pool = pool
    self.progress = progress
    self.isCancelled = isCancelled
  }

  /// Reads all weights once.
  public func run() throws(ConversionError) -> EncodingCosts {
    var plans: [ConversionPlan] = []
    for encoding in EncodingCosts.candidates {
      let uniform = Recipe(name: encoding.name, rules: [Recipe.Rule(encoding: encoding)])
      do throws(RecipeError) {
        plans.append(try ConversionPlan(checkpoint, recipe: uniform))
      } catch {
        throw .recipe(error)
      }
    }
    var state = try MeasurementState(
      checkpoint, calibration: calibration, pool: pool, isCancelled: isCancelled)
    let total = plans[0].sourceByteCount
    var done = 0
    for index in plans[0].steps.indices {
      let entries = plans[0].steps[index].entries
      progress(done, total)
      try state.measure(plans.map { $0.steps[index] })
      for entry in entries {
        checkpoint.release(entry.tensor)
        done += entry.tensor.byteCount
      }
    }
    progress(total, total)
    return EncodingCosts(
      groups: state.groups, plan: plans[0], layerCount: checkpoint.configuration.layerCount,
      columnScaleCount: state.columnScaleCount)
  }
}

/// What has been measured so far.
private struct MeasurementState {
  private let checkpoint: Checkpoint
  private let pool: WorkerPool
  private let isCancelled: @Sendable () -> Bool
  private let calibrator: Calibrator?
  /// Nil without a text.
  private let sensitivity: Sensitivity?
  private(set) var groups: [[EncodingCosts.Matrix]] = []
  private(set) var columnScaleCount = 0

  init(
    _ checkpoint: Checkpoint, calibration: Calibration, pool: WorkerPool,
    isCancelled: @escaping @Sendable () -> Bool
  ) throws(ConversionError) {
    self.checkpoint = checkpoint
    self.pool = pool
    self.isCancelled = isCancelled
    let prepared: PreparedCalibration
    do throws(CalibrationError) {
      prepared = try PreparedCalibration(calibration, of: checkpoint)
    } catch {
      throw .calibration(error)
    }
    guard case .source(let source) = prepared else {
      (calibrator, sensitivity) = (nil, nil)
      return
    }
    calibrator = try Calibrator(checkpoint, source: source, pool: pool, isCancelled: isCancelled)
    if case .tokens(let tokens) = source {
      sensitivity = try Sensitivity(
        checkpoint, windowLength: tokens.windows[0].count, pool: pool)
    } else {
      sensitivity = nil
    }
  }

  /// Measures one step.
  ///
  /// - Parameter steps: the same step for each candidate.
  mutating func measure(_ steps: [ConversionPlan.Step]) throws(ConversionError) {
    let step = steps[0]
    if let run = calibrator?.run { sensitivity?.enter(run.state) }
    try calibrator?.advance(to: step.kind)
    if step.kind == .vectors { return }
    let tied = checkpoint.configuration.tiedEmbeddings
    var entries = InputGroup.groups(of: step, tiedEmbeddings: tied).map(\.entries)
    let grouped = Set(entries.joined().map(\.tensor.name))
    entries += step.entries.filter { !grouped.contains($0.tensor.name) }.map { [$0] }
    var errors: [String: [BlockEncoding: ErrorStatistics]] = [:]
    var forms: [BlockEncoding: [String: WeightMatrix]] = [:]
    // Inputs that have column scales with any of the encodings.
    var scaled: [String: Int] = [:]
    for (encoding, step) in zip(EncodingCosts.candidates, steps) {
      let weightings = try calibrator?.weightings(of: step) ?? []
      for weighting in weightings where weighting.scales != nil {
        scaled[weighting.group.name] = weighting.importance.count
      }
      for entry in step.entries {
        if isCancelled() { throw .cancelled(path: checkpoint.directory) }
        let weighting = weightings.first { $0.group.contains(entry) }
        let name = entry.tensor.name
        let (matrix, statistics) = try checkpoint.encode(
          name, as: encoding, importance: weighting?.importance, columnScales: weighting?.scales,
          pool: pool, isCancelled: isCancelled)
        errors[name, default: [:]][encoding] = statistics
        if encoding == Sensitivity.base || encoding == Sensitivity.probe {
          forms[encoding, default: [:]][name] = matrix
        }
      }
    }
    columnScaleCount += scaled.values.reduce(0, +)
    let damage = try sensitivity?.damage(
      step.kind, base: forms[Sensitivity.base]!, probes: forms[Sensitivity.probe]!)
    groups += entries.map { entries in
      entries.map { entry in
        EncodingCosts.Matrix(
          entry: entry,
          geometry: PanelGeometry(rows: entry.tensor.shape[0], columns: entry.tensor.shape[1])!,
          costs: Self.costs(errors[entry.tensor.name]!, of: entry, damage: damage))
      }
    }
  }

  /// - Parameter damage: of the probes, by name; nil without a text.
  private static func costs(
    _ errors: [BlockEncoding: ErrorStatistics], of entry: ConversionPlan.Entry,
    damage: [String: Double]?
  ) -> [BlockEncoding: Double] {
    func weighted(_ statistics: ErrorStatistics) -> Double {
      statistics.weightedError ?? statistics.normalizedMeanSquaredError
    }
    guard let damage else { return errors.mapValues(weighted) }
    let probed = weighted(errors[Sensitivity.probe]!)
    // A matrix that the probe encodes without error is not sensitive to anything.
    let factor = probed > 0 ? (damage[entry.tensor.name] ?? 0) / probed : 0
    return errors.mapValues { statistics in
      factor * weighted(statistics)
        // What is looked up is the residual stream at its beginning.
        + (entry.role == .embedding ? statistics.normalizedMeanSquaredError : 0)
    }
  }
}
