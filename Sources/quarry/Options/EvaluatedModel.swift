import Conversion
import Inference
import ModelFiles
import TensorCore
import Tokenization

/// A model that is evaluated, or that another is compared with: of a slab, or of a checkpoint as it
/// is.
struct EvaluatedModel {
  /// What to call it.
  let name: String
  let model: Model
  /// Of a slab's logical bytes; nil for a checkpoint.
  let rootDigest: String?
  /// Whether it is a checkpoint, whose weights are not quantized.
  var isCheckpoint: Bool { rootDigest == nil }

  /// - Parameter path: nil for the bundled model.
  init(slab path: String?, loading: LoadingOptions, pool: WorkerPool) throws {
    var argument = SlabArgument()
    argument.slab = path
    let slab = try argument.open(pool: pool)
    name = path ?? "Pebble"
    rootDigest = "\(slab.rootDigest)"
    model = try loading.load(slab, pool: pool, kernels: .selected())
  }

  init(checkpoint: Checkpoint, pool: WorkerPool) throws {
    name = checkpoint.directory
    rootDigest = nil
    checkpoint.warnings.forEach(Console.warn)
    for file in checkpoint.weightFiles {
      MappedFiles.watch(
        file.mappedBytes, path: file.path, advice: "Evaluate again when the checkpoint is complete")
    }
    let progress = Progress("loading \(checkpoint.directory)")
    defer { progress.finish() }
    do {
      model = try Model(
        checkpoint: checkpoint, pool: pool, kernels: .selected(),
        isCancelled: { Interrupt.isRequested }
      ) { progress.update($0, of: $1) }
    } catch is CancellationError {
      throw Interrupt.exitCode
    }
  }
}
