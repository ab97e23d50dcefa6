import ArgumentParser
import ModelFiles

struct Verify: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check every byte of a slab against its digests.",
    discussion: """
      Names the first tensor, frame and byte range that is damaged, and exits with 1.

      EXAMPLES
        quarry verify granite.slab
      """)

  @Argument(help: "A slab.", completion: .file())
  var slab: String
  @OptionGroup var runtime: RuntimeOptions

  func run() throws {
    let slab = try Slab(path: slab)
    let progress = Progress("verifying")
    defer { progress.finish() }
    try slab.verify(pool: runtime.makePool()) { progress.update($0, of: $1) }
    progress.finish()
    try Console.write(
      "\(slab.path): intact (\(slab.tensors.count) tensors, \(Format.bytes(slab.fileByteCount)), "
        + "root \(slab.rootDigest))\n")
  }
}
