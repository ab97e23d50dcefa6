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
  /// What is found at the place of the output, or in the working directory.
  let disk: SlabPreflight
  let memory: [MemoryPrediction]
  /// Lengths of context that ``memory`` is for.
  let contexts: [Int]
  let availableMemory: Int?
  let threadCount: Int
  /// Seconds of quantizing; of the calibration text's products, 0 without one; and of reading the
  /// checkpoint from where its pages are now, meanwhile. Nil where it could not be measured.
  let quantizing: Double?
  let calibrating: Double?
  let reading: Double?
  /// Tokens per second that products alone allow; nil where it could not be measured.
  let decoding: Double?

  /// - Parameter calibrationTokens: at most; 0 for a conversion that runs no text.
  init(
    _ checkpoint: Checkpoint, recipe: Recipe, plan: ConversionPlan, calibrationTokens: Int,
    profile: SlabProfile, output: String?, replacing: Bool, pool: WorkerPool
  ) {
    self.checkpoint = checkpoint
    self.recipe = recipe
    self.plan = plan
    self.profile = profile
    self.output = output
    disk = SlabPreflight(
      path: output ?? "model.slab", replacing: replacing || output == nil,
      inputs: output == nil ? [] : checkpoint.files, expectedByteCount: plan.maximumFileByteCount)
    let configuration = checkpoint.configuration
    let longest = configuration.contextLength
    contexts = [4096, 32768, 131072].filter { $0 < longest } + (longest <= 131072 ? [longest] : [])
    memory = contexts.map {
      MemoryPrediction(
        weightByteCount: plan.logicalByteCount, configuration: configuration, contextLength: $0)
    }
    availableMemory = SystemMemory.availableByteCount
    threadCount = pool.threadCount

    let probe = SpeedProbe(pool: pool)
    quantizing = Self.seconds(plan.entries, { $0.tensor.elementCount }, probe.quantizing)
    let isQuantized = plan.entries.contains { $0.encoding?.isQuantized == true }
    let products = plan.layerEntries.reduce(0) { $0 + $1.tensor.elementCount }
    calibrating =
      calibrationTokens == 0 || !isQuantized
      ? 0
      : probe.calibrating().flatMap { rate in
        // The layers are put into 8 bits first.
        probe.quantizing(.q8b16).map {
          Double(products) * Double(calibrationTokens) / rate + Double(products) / $0
        }
      }
    reading = checkpoint.files.first { $0.hasSuffix(".safetensors") }
      .flatMap(SpeedProbe.reading).map { Double(plan.sourceByteCount) / $0 }
    decoding = Self.seconds(plan.decodedEntries, { $0.logicalByteCount }, probe.decoding)
      .map { 1 / $0 }
  }

  /// About how long a conversion takes.
  var seconds: Double? {
    guard let quantizing, let calibrating else { return nil }
    return max(quantizing + calibrating, reading ?? 0)
  }

  /// Time for amounts of work at a measured rate for each encoding.
  private static func seconds(
    _ entries: [ConversionPlan.Entry], _ amount: (ConversionPlan.Entry) -> Int,
    _ rate: (BlockEncoding) -> Double?
  ) -> Double? {
    var amounts: [BlockEncoding: Int] = [:]
    for entry in entries {
      if let encoding = entry.encoding { amounts[encoding, default: 0] += amount(entry) }
    }
    var seconds = 0.0
    for (encoding, amount) in amounts {
      guard let rate = rate(encoding) else { return nil }
      seconds += Double(amount) / rate
    }
    return seconds
  }
}
