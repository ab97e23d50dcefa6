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
  private let checkpoint: Checkpoint
  private let recipe: Recipe
  private let calibration: Calibration
  private let profile: SlabProfile
  private let pool: WorkerPool
  private let replacing: Bool
  private let progress: @Sendable (Progress) -> Void
  private let isCancelled: @Sendable () -> Bool

  /// - Parameters:
  ///   - calibration: what errors of weights are weighed by; a checkpoint that cannot have it is
  ///     converted without, and the report says so.
  ///   - replacing: whether an existing output may be replaced; an input never is.
  ///   - progress: called at the beginning and after every tensor, on the thread that converts.
  ///   - isCancelled: asked often, on any thread; once true, the conversion ends soon, also in the
  ///     middle of a large tensor.
  public init(
    checkpoint: Checkpoint, recipe: Recipe, calibration: Calibration = .bundled,
    profile: SlabProfile, pool: WorkerPool, replacing: Bool = false,
    progress: @escaping @Sendable (Progress) -> Void = { _ in },
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) {
    self.checkpoint = checkpoint
    self.recipe = recipe
    self.calibration = calibration
    self.profile = profile
    self.pool = pool
    self.replacing = replacing
    self.progress = progress
    self.isCancelled = isCancelled
  }

  /// Writes the slab. It appears at `path` when it is complete; a conversion that fails or is
  /// cancelled leaves nothing.
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
    let writer: SlabWriter
    do throws(SlabError) {
      writer = try SlabWriter(
        path: path, profile: profile, replacing: replacing, inputs: checkpoint.files,
        assets: checkpoint.assets, metadata: metadata(prepared),
        expectedByteCount: plan.maximumFileByteCount,
        pool: pool, isCancelled: isCancelled)
    } catch {
      throw .output(error)
    }
    let kinds: [ConversionReport.Kind]
    let outcome: CalibrationOutcome
    let slab: Slab
    do throws(ConversionError) {
      let calibrator = try calibrator(prepared)
      kinds = try write(plan, calibrator, to: writer, path)
      outcome = prepared.outcome(calibrator)
      do throws(SlabError) {
        try writer.finish()
        slab = try Slab(path: path)
      } catch {
        throw .output(error)
      }
    } catch {
      writer.cancel()
      throw error.isCancellation ? .cancelled(path: path) : error
    }
    return ConversionReport(
      recipe: recipe, calibration: outcome, profile: profile, kinds: kinds,
      sourceByteCount: plan.sourceByteCount, fileByteCount: slab.fileByteCount,
      rootDigest: slab.rootDigest, duration: clock.now - start)
  }

  private func write(
    _ plan: ConversionPlan, _ calibrator: Calibrator?, to writer: SlabWriter, _ path: String
  ) throws(ConversionError) -> [ConversionReport.Kind] {
    var kinds = ConversionReport.Kinds()
    var state = ConversionProgress(plan)
    progress(state.current)
    for (index, step) in plan.steps.enumerated() {
      if isCancelled() { throw .cancelled(path: path) }
      try calibrator?.advance(to: step.kind)
      if index + 1 < plan.steps.count {
        for entry in plan.steps[index + 1].entries { checkpoint.prefetch(entry.tensor) }
      }
      let weightings = try calibrator?.weightings(of: step) ?? []
      for entry in step.entries {
        if isCancelled() { throw .cancelled(path: path) }
        let weighting = weightings.first { $0.group.contains(entry) }
        let statistics = try write(entry, weighting, to: writer)
        kinds.add(entry, statistics)
        checkpoint.release(entry.tensor)
        state.finish(statistics)
        progress(state.current)
      }
      try writeColumnScales(weightings, to: writer)
    }
    if isCancelled() { throw .cancelled(path: path) }
    return kinds.all
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
      tensor.name, as: encoding, importance: weighting?.importance, columnScales: scales,
      pool: pool, isCancelled: isCancelled)
    try output { () throws(SlabError) in
      try writer.append(
        encoded.matrix, name: tensor.name, shape: tensor.shape, sourceType: entry.sourceType,
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
      let values = Array(UnsafeBufferPointer(start: scales.pointer, count: scales.columns))
      try output { () throws(SlabError) in
        try writer.append(
          values, name: weighting.group.columnScalesName, shape: [values.count], sourceType: .f32)
      }
    }
  }

  private func prepare(_ plan: ConversionPlan) throws(ConversionError) -> PreparedCalibration {
    guard plan.entries.contains(where: { $0.encoding?.isQuantized == true }) else {
      return .unwanted
    }
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

  /// Where the slab comes from. Names and not digests of the source files: hashing 16 GB would cost
  /// more than converting them, and the root digest identifies the result, which follows from the
  /// source. Nothing here depends on the machine, the time or the place.
  private func metadata(_ prepared: PreparedCalibration) -> [String: String] {
    let own = [
      "calibration": prepared.origin ?? "none",
      "tool": "quarry \(Self.version)",
      "numerics": "\(Reference.numericsVersion)",
      "source": checkpoint.weightFileNames.joined(separator: "\n"),
    ]
    return own.merging(recipe.metadata) { $1 }
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
