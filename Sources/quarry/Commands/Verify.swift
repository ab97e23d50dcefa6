import ArgumentParser
import Conversion
import ModelFiles
import TensorCore

struct Verify: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check every byte of a slab against its digests.",
    discussion: """
      Names the first tensor, frame and byte range that is damaged, and exits with 1.

      With --source, every tensor is also dequantized and compared with the checkpoint that the slab \
      was made from. A tensor that is further from its original than the slab says is listed, and \
      the exit code is 1.

      EXAMPLES
        quarry verify granite.slab
        quarry verify granite.slab --source granite-3.3-2b-instruct
      """)

  @Argument(help: "A slab.", completion: .file())
  var slab: String
  @Option(help: "The checkpoint directory that the slab was made from.", completion: .directory)
  var source: String?
  @OptionGroup var runtime: RuntimeOptions

  func run() throws {
    let slab = try Slab(path: slab)
    let checkpoint = try source.map(Checkpoint.init(directory:))
    let pool = runtime.makePool()
    let progress = Progress("verifying")
    defer { progress.finish() }
    try slab.verify(pool: pool) { progress.update($0, of: $1) }
    progress.finish()
    try Console.write(
      "\(slab.path): intact (\(slab.tensors.count) tensors, \(Format.bytes(slab.fileByteCount)), "
        + "root \(slab.rootDigest))\n")
    if let checkpoint { try compare(slab, checkpoint, pool) }
  }

  private func compare(_ slab: Slab, _ checkpoint: Checkpoint, _ pool: WorkerPool) throws {
    for file in checkpoint.weightFiles {
      MappedFiles.watch(file.mappedBytes, path: file.path, advice: "Compare again when it is whole")
    }
    Interrupt.watch()
    let progress = Progress("comparing")
    defer { progress.finish() }
    guard
      let result = try SourceComparison.compare(
        slab, with: checkpoint, pool: pool, progress: { progress.update($0, of: $1) },
        isCancelled: { Interrupt.isRequested })
    else { throw Interrupt.exitCode }
    progress.finish()
    guard result.faults.isEmpty else {
      try Console.write(Self.table(result.faults) + "\n")
      throw InputError(
        "\(result.faults.count) parts of \(slab.path) are not what converting "
          + "\(checkpoint.directory) made of them")
    }
    try Console.write(
      "\(slab.path): \(result.tensorCount) tensors are as close to \(checkpoint.directory) as "
        + "recorded\n")
  }

  private static func table(_ faults: [SourceComparison.Fault]) -> String {
    func cells(_ statistics: ErrorStatistics?) -> [String] {
      guard let statistics else { return ["", ""] }
      return [
        Format.significant(statistics.normalizedMeanSquaredError),
        Format.significant(statistics.maximumAbsoluteError),
      ]
    }
    return Format.table(
      ["tensor", "recorded NMSE", "max error", "found NMSE", "max error", "fault"],
      faults.map { [$0.name] + cells($0.recorded) + cells($0.found) + [$0.reason] },
      right: [1, 2, 3, 4])
  }
}
