import Conversion
import Foundation
import Inference
import ModelFiles
import TensorCore

/// What a conversion would do, known from the headers of a checkpoint and from quick measurements.
struct DryRun {
  let checkpoint: Checkpoint
  let recipe: Recipe
  let profile: SlabProfile
  let plan: ConversionPlan
  /// Nil where no output is named.
  let output: String?
  /// Bytes of the slab, at least and at most.
  let fileByteCounts: ClosedRange<Int>
  /// Bytes of what is kept for another run, at most.
  let journalByteCount: Int
  /// What is found at the place of the output, or in the working directory.
  let disk: SlabPreflight
  let memory: [ContextMemory]
  let availableMemory: Int?
  let threadCount: Int
  let conversion: ConversionEstimate
  /// Tokens per second that products alone allow; nil where it could not be measured.
  let decoding: Double?

  /// What running the slab takes at a length of context, with each kind of cache.
  struct ContextMemory {
    let context: Int
    let predictions: [(type: CacheType, memory: MemoryPrediction)]
  }

  /// - Parameters:
  ///   - converter: what would convert the checkpoint.
  ///   - contexts: lengths of context to run the slab at; empty for usual ones.
  init(
    _ checkpoint: Checkpoint, recipe: Recipe, plan: ConversionPlan, calibration: Calibration,
    profile: SlabProfile, output: String?, replacing: Bool, contexts: [Int], pool: WorkerPool
  ) {
    self.checkpoint = checkpoint
    self.recipe = recipe
    self.plan = plan
    self.profile = profile
    self.output = output
    let converter = Converter(
      checkpoint: checkpoint, recipe: recipe, calibration: calibration, profile: profile,
      pool: pool)
    fileByteCounts = converter.fileByteCounts(plan)
    journalByteCount = converter.journalByteCount(plan)
    disk = SlabPreflight(
      path: output ?? "model.slab", replacing: replacing || output == nil,
      inputs: output == nil ? [] : checkpoint.files,
      expectedByteCount: fileByteCounts.upperBound + journalByteCount)
    let configuration = checkpoint.configuration
    memory = (contexts.isEmpty ? Self.usualContexts(configuration.contextLength) : contexts).map {
      context in
      ContextMemory(
        context: context,
        predictions: CacheType.allCases.map { type in
          (
            type,
            MemoryPrediction(
              weightByteCount: plan.logicalByteCount, configuration: configuration,
              contextLength: context, cacheType: type)
          )
        })
    }
    availableMemory = SystemMemory.availableByteCount
    threadCount = pool.threadCount
    let probe = SpeedProbe(pool: pool)
    conversion = ConversionEstimate(
      plan, of: checkpoint, calibration: calibration,
      slabByteCount: fileByteCounts.upperBound, probe: probe)
    decoding = probe.decoding(plan.decodedEntries)
  }

  /// Up to the longest that the model takes.
  private static func usualContexts(_ longest: Int) -> [Int] {
    [4096, 32768, 131072].filter { $0 < longest } + (longest <= 131072 ? [longest] : [])
  }
}
