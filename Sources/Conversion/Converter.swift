public import ModelFiles
import Quantization
public import TensorCore

/// Cuts a checkpoint into a slab: one pass, tensor by tensor, in the order of ``ConversionPlan``.
///
/// Memory is bounded by the largest tensor (its source pages and its encoded streams) plus a
/// constant. The same checkpoint and recipe give the same bytes on every machine and for any number
/// of threads.
public struct Converter: Sendable {
  private let checkpoint: Checkpoint
  private let recipe: Recipe
  private let profile: SlabProfile
  private let pool: WorkerPool
  private let replacing: Bool
  private let progress: @Sendable (Progress) -> Void
  private let isCancelled: @Sendable () -> Bool

  /// - Parameters:
  ///   - replacing: whether an existing output may be replaced; an input never is.
  ///   - progress: called at the beginning and after every tensor, on the thread that converts.
  ///   - isCancelled: asked often, on any thread; once true, the conversion ends soon, also in the
  ///     middle of a large tensor.
  public init(
    checkpoint: Checkpoint, recipe: Recipe, profile: SlabProfile, pool: WorkerPool,
    replacing: Bool = false, progress: @escaping @Sendable (Progress) -> Void = { _ in },
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) {
    self.checkpoint = checkpoint
    self.recipe = recipe
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
    let writer: SlabWriter
    do throws(SlabError) {
      writer = try SlabWriter(
        path: path, profile: profile, replacing: replacing, inputs: checkpoint.files,
        assets: checkpoint.assets, metadata: metadata, expectedByteCount: plan.maximumFileByteCount,
        pool: pool, isCancelled: isCancelled)
    } catch {
      throw .output(error)
    }
    let kinds: [ConversionReport.Kind]
    let slab: Slab
    do throws(ConversionError) {
      kinds = try write(plan, to: writer, path)
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
      recipe: recipe, profile: profile, kinds: kinds, sourceByteCount: plan.sourceByteCount,
      fileByteCount: slab.fileByteCount, rootDigest: slab.rootDigest, duration: clock.now - start)
  }

  private func write(
    _ plan: ConversionPlan, to writer: SlabWriter, _ path: String
  ) throws(ConversionError) -> [ConversionReport.Kind] {
    var kinds = ConversionReport.Kinds()
    var state = ConversionProgress(plan)
    progress(state.current)
    for (index, entry) in plan.entries.enumerated() {
      if isCancelled() { throw .cancelled(path: path) }
      if index + 1 < plan.entries.count { checkpoint.prefetch(plan.entries[index + 1].tensor) }
      let statistics = try write(entry, to: writer)
      kinds.add(entry, statistics)
      checkpoint.release(entry.tensor)
      state.finish(statistics)
      progress(state.current)
    }
    if isCancelled() { throw .cancelled(path: path) }
    return kinds.all
  }

  private func write(
    _ entry: ConversionPlan.Entry, to writer: SlabWriter
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
    let matrix = try source { () throws(CheckpointError) in
      try checkpoint.matrix(named: tensor.name)
    }
    let encoded: (matrix: WeightMatrix, statistics: ErrorStatistics)
    do throws(QuantizationError) {
      encoded = try Quantizer.encode(matrix, as: encoding, pool: pool, isCancelled: isCancelled)
    } catch .nonFinite(let row, let column) {
      throw .checkpoint(checkpoint.nonFinite(tensor, index: row * matrix.columns + column))
    } catch {
      throw .quantization(tensor: tensor.name, error)
    }
    try output { () throws(SlabError) in
      try writer.append(
        encoded.matrix, name: tensor.name, shape: tensor.shape, sourceType: entry.sourceType,
        columnScales: nil, statistics: encoded.statistics)
    }
    return encoded.statistics
  }

  /// Where the slab comes from. Names and not digests of the source files: hashing 16 GB would cost
  /// more than converting them, and the root digest identifies the result, which follows from the
  /// source. Nothing here depends on the machine, the time or the place.
  private var metadata: [String: String] {
    let own = [
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
