public import ModelFiles
import Quantization
public import TensorCore

/// Cuts a checkpoint into a slab: one pass, step by step, in the order of ``ConversionPlan``. A decoder
/// layer is read, run over the calibration text, and quantized by what was seen.
///
/// Memory is bounded by the largest layer (its source pages and, for calibration, its 8-bit form), by
/// the largest tensor, and by the hidden states of the calibration text. The same checkpoint, recipe and
/// calibration give the same bytes on every machine and for any number of threads.
public struct Converter: Sendable {
  let checkpoint: Checkpoint
  let recipe: Recipe
  let calibration: Calibration
  let profile: SlabProfile
  let pool: WorkerPool
  let replacing: Bool
  let restarting: Bool
  private let progress: @Sendable (Progress) -> Void
  let resumed: @Sendable (String) -> Void
  let isCancelled: @Sendable () -> Bool
  /// Steps that end sooner behind the last record are recorded with the next: writing the journal would
  /// take longer than their work. Tests want all or none.
  package var recordInterval = Duration.milliseconds(200)

  /// - Parameters:
  ///   - calibration: what errors of weights are weighed by; a checkpoint that cannot have it is
  ///     converted without, and the report says so.
  ///   - replacing: whether an existing output may be replaced; an input never is.
  ///   - restarting: whether what an interrupted conversion did is discarded; otherwise this one goes on
  ///     behind it.
  ///   - resumed: called if so, with what was done: "12 of 40 layers".
  ///   - progress: called at the beginning, after every tensor and while a layer calibrates, on the
  ///     thread that converts.
  ///   - isCancelled: asked often, on any thread; once true, the conversion ends soon, also in the
  ///     middle of a large tensor.
  public init(
    checkpoint: Checkpoint, recipe: Recipe, calibration: Calibration = .bundled,
    profile: SlabProfile, pool: WorkerPool, replacing: Bool = false, restarting: Bool = false,
    resumed: @escaping @Sendable (String) -> Void = { _ in },
    progress: @escaping @Sendable (Progress) -> Void = { _ in },
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) {
    self.checkpoint = checkpoint
    self.recipe = recipe
    self.calibration = calibration
    self.profile = profile
    self.pool = pool
    self.replacing = replacing
    self.restarting = restarting
    self.resumed = resumed
    self.progress = progress
    self.isCancelled = isCancelled
  }

  /// Writes the slab. It appears at `path` when it is complete.
  ///
  /// A conversion that is killed or cancelled, and one that ran out of disk, leaves its unfinished file
  /// with a journal beside it, unless it has not done a step yet; the same conversion, run again, goes on
  /// there and ends with the same bytes. Any other failure leaves nothing.
  public func run(to path: String) throws(ConversionError) -> ConversionReport {
    let clock = ContinuousClock()
    let start = clock.now
    let plan: ConversionPlan
    do throws(RecipeError) {
      plan = try ConversionPlan(checkpoint, recipe: recipe)
    } catch {
      throw .recipe(error)
    }
    let prepared = try prepare(plan)
    if let slab = finishedSlab(at: path, prepared) {
      return ConversionReport(
        recipe: recipe, calibration: prepared.outcome(nil), profile: profile,
        kinds: ConversionReport.Kinds(plan.entries, in: slab.tensors).all,
        sourceByteCount: plan.sourceByteCount, fileByteCount: slab.fileByteCount,
        rootDigest: slab.rootDigest, resumedAfter: plan.summary(ofSteps: plan.steps.count),
        wasFinished: true, convertedByteCount: 0, duration: clock.now - start)
    }
    let writer: SlabWriter
    do throws(SlabError) {
      writer = try SlabWriter(
        path: path, profile: profile, replacing: replacing, inputs: checkpoint.files,
        assets: checkpoint.assets, metadata: metadata(calibration: prepared.origin ?? "none"),
        expectedByteCount: fileByteCounts(plan).upperBound + journalByteCount(plan), pool: pool,
        fingerprint: fingerprint(prepared), restarting: restarting, isCancelled: isCancelled)
    } catch {
      throw .output(error)
    }
    let written: (kinds: [ConversionReport.Kind], convertedByteCount: Int)
    let outcome: CalibrationOutcome
    let slab: Slab
    do throws(ConversionError) {
      let hashing = SourceHashing(checkpoint)
      let calibrator = try calibrator(prepared)
      written = try write(plan, calibrator, to: writer, path)
      outcome = prepared.outcome(calibrator)
      try source { () throws(CheckpointError) in try checkpoint.checkUnchanged() }
      guard hashing.wait(unless: isCancelled) else { throw ConversionError.cancelled(path: path) }
      let digests = try source { () throws(CheckpointError) in try hashing.lines() }
      do throws(SlabError) {
        try writer.setMetadata(Self.sourceDigestsKey, digests)
        try writer.finish()
        slab = try Slab(path: path)
      } catch {
        throw .output(error)
      }
    } catch {
      throw ended(error, writer, path: path)
    }
    return ConversionReport(
      recipe: recipe, calibration: outcome, profile: profile, kinds: written.kinds,
      sourceByteCount: plan.sourceByteCount, fileByteCount: slab.fileByteCount,
      rootDigest: slab.rootDigest, resumedAfter: writer.resumption?.summary,
      wasFinished: false, convertedByteCount: written.convertedByteCount,
      duration: clock.now - start)
  }

  private func write(
    _ plan: ConversionPlan, _ calibrator: Calibrator?, to writer: SlabWriter, _ path: String
  ) throws(ConversionError) -> (kinds: [ConversionReport.Kind], convertedByteCount: Int) {
    var state = try restore(writer, plan: plan, calibrator, path: path)
    let doneCount = state.sourceDigests.count
    var kinds = ConversionReport.Kinds(
      plan.entries.prefix(doneCount), in: writer.resumption?.tensors ?? [])
    var progress = ConversionProgress(plan)
    progress.skip(doneCount)
    let doneByteCount = progress.current.doneByteCount
    self.progress(progress.current)
    let clock = ContinuousClock()
    var recorded = clock.now
    for (index, step) in plan.steps.enumerated().dropFirst(state.stepCount) {
      try source { () throws(CheckpointError) in try checkpoint.checkUnchanged() }
      if isCancelled() { throw .cancelled(path: path) }
      try calibrator?.advance(to: step.kind) { layer, done, count in
        self.progress(progress.calibrating(layer: layer, done: done, of: count))
      }
      if index + 1 < plan.steps.count {
        for entry in plan.steps[index + 1].entries { checkpoint.prefetch(entry.tensor) }
      }
      let weightings = try calibrator?.weightings(of: step) ?? []
      for entry in step.entries {
        if isCancelled() { throw .cancelled(path: path) }
        let weighting = weightings.first { $0.group.contains(entry) }
        let statistics = try write(entry, weighting, to: writer)
        kinds.add(entry, statistics)
        state.sourceDigests.append(checkpoint.digest(of: entry.tensor, pool: pool))
        checkpoint.release(entry.tensor)
        self.progress(progress.finish(statistics))
      }
      try writeColumnScales(weightings, to: writer)
      state.stepCount += 1
      if clock.now - recorded >= recordInterval {
        try output { () throws(SlabError) in
          try writer.recordStep(
            plan.summary(ofSteps: state.stepCount), payload: state.encoded(calibrator))
        }
        recorded = clock.now
      }
    }
    if isCancelled() { throw .cancelled(path: path) }
    return (kinds.all, plan.sourceByteCount - doneByteCount)
  }

  private func write(
    _ entry: ConversionPlan.Entry, _ weighting: Calibrator.Weighting?, to writer: SlabWriter
  ) throws(ConversionError) -> ErrorStatistics? {
    let tensor = entry.tensor
    guard let encoding = entry.encoding else {
      let values = try source { () throws(CheckpointError) in
        try checkpoint.values(named: tensor.name)
      }
      try output { () throws(SlabError) in
        try writer.append(
          values, name: tensor.name, shape: tensor.shape, sourceType: entry.sourceType)
      }
      return nil
    }
    let scales = encoding.isQuantized ? weighting?.scales : nil
    let encoded = try checkpoint.encode(
      tensor.name, as: encoding, importance: weighting?.importance(of: entry) ?? [],
      columnScales: scales, pool: pool, isCancelled: isCancelled)
    try output { () throws(SlabError) in
      try writer.append(
        encoded.weights, name: tensor.name, shape: tensor.shape, sourceType: entry.sourceType,
        columnScales: scales == nil ? nil : weighting?.group.columnScalesName,
        statistics: encoded.statistics)
    }
    return encoded.statistics
  }

  /// Column scales follow the matrices that name them.
  private func writeColumnScales(
    _ weightings: [Calibrator.Weighting], to writer: SlabWriter
  ) throws(ConversionError) {
    for weighting in weightings {
      guard let scales = weighting.scales else { continue }
      try output { () throws(SlabError) in
        try writer.append(
          scales.values, name: weighting.group.columnScalesName, shape: [scales.columns],
          sourceType: .f32)
      }
    }
  }

  private func prepare(_ plan: ConversionPlan) throws(ConversionError) -> PreparedCalibration {
    guard plan.isQuantized else { return .unwanted }
    do throws(CalibrationError) {
      return try PreparedCalibration(calibration, of: checkpoint)
    } catch {
      throw .calibration(error)
    }
  }

  private func calibrator(
    _ prepared: PreparedCalibration
  ) throws(ConversionError) -> Calibrator? {
    guard case .source(let source) = prepared else { return nil }
    return try Calibrator(checkpoint, source: source, pool: pool, isCancelled: isCancelled)
  }

  /// Version of this program, recorded in the slabs that it converts.
  public static let version = "0.1"

  // MARK: - Errors of the rooms below

  private func source<Result>(
    _ body: () throws(CheckpointError) -> Result
  ) throws(ConversionError) -> Result {
    do throws(CheckpointError) { return try body() } catch { throw .checkpoint(error) }
  }

  private func output(_ body: () throws(SlabError) -> Void) throws(ConversionError) {
    do throws(SlabError) { try body() } catch { throw .output(error) }
  }
}
