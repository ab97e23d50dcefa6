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
  let checkpoint: Checkpoint
  private let calibration: Calibration
  private let pool: WorkerPool
  private let progress: @Sendable (_ done: Int, _ total: Int) -> Void
  private let isCancelled: @Sendable () -> Bool
  /// As for ``Converter``: steps that end sooner behind the last record are recorded with the next.
  package var recordInterval = Duration.milliseconds(500)

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

  /// Refuses a size that no encodings can have, without reading weights.
  ///
  /// - Throws: ``TargetError``, ``ConversionError``.
  public func check(_ target: SizeTarget) throws {
    let plans = try plans()
    let state = try MeasurementState(
      checkpoint, .unwanted, pool: pool, isCancelled: isCancelled)
    let matrices = plans[0].steps.flatMap { state.matrixGroups($0) }.map { entries in
      entries.map { entry in
        EncodingCosts.Matrix(
          entry, costs: Dictionary(uniqueKeysWithValues: EncodingCosts.candidates.map { ($0, 0) }))
      }
    }
    // What vectors are compressed to and whether columns get scales is not known yet: the size must be
    // possible in one of the two cases.
    do {
      _ = try costs(matrices, plans[0], .least).choice(for: target)
    } catch {
      guard (try? costs(matrices, plans[0], .most).choice(for: target)) != nil else { throw error }
    }
  }

  /// Reads all weights once.
  ///
  /// - Parameter journal: keeps what is found for another run; the caller removes it. An error that will
  ///   not pass removes it, too.
  public func run(journal: PassJournal? = nil) throws(ConversionError) -> EncodingCosts {
    do throws(ConversionError) {
      return try measure(journal)
    } catch {
      if error.isCancellation { throw .cancelled(path: checkpoint.directory) }
      if !error.isPassing { journal?.remove() }
      throw error
    }
  }

  private func measure(_ journal: PassJournal?) throws(ConversionError) -> EncodingCosts {
    let plans = try plans()
    let plan = plans[0]
    var state = try MeasurementState(
      checkpoint, prepare(), pool: pool, isCancelled: isCancelled)
    if let journal { try restore(&state, journal, plan) }
    let total = plan.sourceByteCount
    var done = plan.steps.prefix(state.stepCount).flatMap(\.entries)
      .reduce(0) { $0 + $1.tensor.byteCount }
    let clock = ContinuousClock()
    var recorded = clock.now
    for (index, step) in plan.steps.enumerated().dropFirst(state.stepCount) {
      progress(done, total)
      try checkUnchanged()
      try state.measure(plans.map { $0.steps[index] })
      for entry in step.entries {
        state.sourceDigests.append(checkpoint.digest(of: entry.tensor, pool: pool))
        checkpoint.release(entry.tensor)
        done += entry.tensor.byteCount
      }
      state.stepCount += 1
      let isComplete = state.stepCount == plan.steps.count
      // The output is measured by what the last layer did, which is not kept.
      let canGoOn =
        if case .layer(let layer) = step.kind {
          layer + 1 < checkpoint.configuration.layerCount
        } else {
          isComplete
        }
      if let journal, canGoOn, isComplete || clock.now - recorded >= recordInterval {
        do throws(SlabError) {
          try journal.record(
            plan.summary(ofSteps: state.stepCount), payload: state.encoded(isComplete: isComplete))
        } catch {
          throw .output(error)
        }
        recorded = clock.now
      }
    }
    progress(total, total)
    return costs(state.groups, plan, .most, known: state.sizes)
  }

  /// What each candidate makes of the checkpoint.
  private func plans() throws(ConversionError) -> [ConversionPlan] {
    var plans: [ConversionPlan] = []
    for encoding in EncodingCosts.candidates {
      let uniform = Recipe(
        name: encoding.name, rules: [Recipe.unquantized, Recipe.Rule(encoding: encoding)])
      do throws(RecipeError) {
        plans.append(try ConversionPlan(checkpoint, recipe: uniform))
      } catch {
        throw .recipe(error)
      }
    }
    return plans
  }

  func prepare() throws(ConversionError) -> PreparedCalibration {
    do throws(CalibrationError) {
      return try PreparedCalibration(calibration, of: checkpoint)
    } catch {
      throw .calibration(error)
    }
  }

  private func checkUnchanged() throws(ConversionError) {
    do throws(CheckpointError) {
      try checkpoint.checkUnchanged()
    } catch {
      throw .checkpoint(error)
    }
  }

  /// Goes on behind what an interrupted run recorded, once the source has been found to hold what that
  /// read.
  private func restore(
    _ state: inout MeasurementState, _ journal: PassJournal, _ plan: ConversionPlan
  ) throws(ConversionError) {
    guard let resumption = journal.resumption else { return }
    do throws(SlabError) {
      try state.restore(resumption.payload, plan: plan, path: journal.path)
    } catch {
      throw .output(error)
    }
    for (entry, digest) in zip(plan.entries, state.sourceDigests) {
      if isCancelled() { throw .cancelled(path: checkpoint.directory) }
      guard checkpoint.digest(of: entry.tensor, pool: pool) == digest else {
        throw .output(
          SlabError(
            .otherJob, path: journal.path, name: entry.tensor.name,
            "encodings were being chosen here, with \(resumption.summary) measured, but the bytes "
              + "of this tensor in the checkpoint are others now"))
      }
      checkpoint.release(entry.tensor)
    }
  }

  private func costs(
    _ groups: [[EncodingCosts.Matrix]], _ plan: ConversionPlan, _ bound: SlabSize.Bound,
    known: MeasuredSizes? = nil
  ) -> EncodingCosts {
    let assets = SlabSize.Assets(checkpoint.assets, pool: pool)
    return EncodingCosts(
      groups: groups, plan: plan, layerCount: checkpoint.configuration.layerCount
    ) { [self] recipe in
      let converter = Converter(
        checkpoint: checkpoint, recipe: recipe, calibration: calibration, profile: .run, pool: pool)
      guard let plan = try? ConversionPlan(checkpoint, recipe: recipe) else {
        preconditionFailure("a choice names every matrix")
      }
      return converter.size(bound, plan, assets, known: known)
    }
  }
}

/// What has been measured so far.
struct MeasurementState {
  private let checkpoint: Checkpoint
  private let pool: WorkerPool
  private let isCancelled: @Sendable () -> Bool
  let calibrator: Calibrator?
  /// Nil without a text.
  private let sensitivity: Sensitivity?
  /// Steps of the plan that are done.
  var stepCount = 0
  /// Of the source's tensors in these steps, in the order of the plan.
  var sourceDigests: [Digest] = []
  /// As ``matrixGroups(_:)`` says of these steps.
  var groups: [[EncodingCosts.Matrix]] = []
  var sizes: MeasuredSizes

  init(
    _ checkpoint: Checkpoint, _ prepared: PreparedCalibration, pool: WorkerPool,
    isCancelled: @escaping @Sendable () -> Bool
  ) throws(ConversionError) {
    self.checkpoint = checkpoint
    self.pool = pool
    self.isCancelled = isCancelled
    sizes = MeasuredSizes(calibrationOrigin: prepared.origin)
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

  /// The matrices of a step: those that read one input together, others alone.
  func matrixGroups(_ step: ConversionPlan.Step) -> [[ConversionPlan.Entry]] {
    if step.kind == .vectors { return [] }
    let tied = checkpoint.configuration.tiedEmbeddings
    let groups = InputGroup.groups(of: step, tiedEmbeddings: tied).map(\.entries)
    let grouped = Set(groups.joined().map(\.tensor.name))
    let others = step.entries.filter {
      !grouped.contains($0.tensor.name) && $0.encoding?.isQuantized == true
    }
    return groups + others.map { [$0] }
  }

  /// Measures one step.
  ///
  /// - Parameter steps: the same step for each candidate.
  mutating func measure(_ steps: [ConversionPlan.Step]) throws(ConversionError) {
    let step = steps[0]
    if let run = calibrator?.run { sensitivity?.enter(run.state) }
    try calibrator?.advance(to: step.kind)
    if step.kind == .vectors { return try measureVectors(step) }
    var errors: [String: [BlockEncoding: ErrorStatistics]] = [:]
    var forms: [BlockEncoding: [String: WeightTensor]] = [:]
    for (encoding, step) in zip(EncodingCosts.candidates, steps) {
      let weightings = try calibrator?.weightings(of: step) ?? []
      for weighting in weightings {
        guard let scales = weighting.scales else { continue }
        sizes.columnScales[weighting.group.name, default: [:]][encoding] = SlabSize.Plain(
          scales.values, pool: pool)
      }
      for entry in step.entries {
        if isCancelled() { throw .cancelled(path: checkpoint.directory) }
        let weighting = weightings.first { $0.group.contains(entry) }
        let name = entry.tensor.name
        let (weights, statistics) = try checkpoint.encode(
          name, as: entry.encoding!, importance: weighting?.importance(of: entry) ?? [],
          columnScales: weighting?.scales, pool: pool, isCancelled: isCancelled)
        errors[name, default: [:]][encoding] = statistics
        if let error = statistics.weightedError {
          sizes.weightedErrors[name, default: [:]][encoding] = error
        }
        if encoding == Sensitivity.base || encoding == Sensitivity.probe {
          forms[encoding, default: [:]][name] = weights
        }
      }
    }
    let damage = try sensitivity?.damage(
      step.kind, base: forms[Sensitivity.base]!, probes: forms[Sensitivity.probe]!)
    groups += matrixGroups(step).map { entries in
      entries.map { entry in
        EncodingCosts.Matrix(
          entry, costs: Self.costs(errors[entry.tensor.name]!, of: entry, damage: damage))
      }
    }
  }

  private mutating func measureVectors(_ step: ConversionPlan.Step) throws(ConversionError) {
    do throws(CheckpointError) {
      for entry in step.entries {
        sizes.vectors[entry.tensor.name] = SlabSize.Plain(
          try checkpoint.values(named: entry.tensor.name), pool: pool)
      }
    } catch {
      throw .checkpoint(error)
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
