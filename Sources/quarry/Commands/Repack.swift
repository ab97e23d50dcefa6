import ArgumentParser
import ModelFiles

struct Repack: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Convert a slab between profiles without loss.",
    discussion: """
      run   weights lie as kernels read them and are mapped in place
      ship  everything is compressed, for a download; it runs too, after decompressing at load

      The root digest stays the same.

      EXAMPLES
        quarry repack granite.slab -o granite-ship.slab --profile ship
      """)

  @Argument(help: "A slab.", completion: .file())
  var slab: String
  @Option(
    name: [.short, .long], help: "The slab to write.", completion: .file(extensions: ["slab"]))
  var output: String
  @Option(help: "The profile to write.")
  var profile: SlabProfile
  @OptionGroup var runtime: RuntimeOptions
  @Flag(help: "Replace an existing output.")
  var force = false

  func run() throws {
    Interrupt.watch()
    let slab = try Slab(path: slab)
    let progress = Progress("repacking")
    let result = Result { () throws(SlabError) in
      try Repacking.repack(
        slab, to: output, profile: profile, replacing: force, pool: runtime.makePool(),
        progress: { progress.update($0, of: $1) }, isCancelled: { Interrupt.isRequested })
    }
    progress.finish()
    if case .failure(let error) = result, error.reason == .cancelled {
      throw Interrupt.ended(without: output)
    }
    try result.get()
    let repacked = try Slab(path: output)
    try Console.write(
      "\(output): \(profile), \(Format.bytes(repacked.fileByteCount)) "
        + "(was \(Format.bytes(slab.fileByteCount))), root \(repacked.rootDigest)\n")
  }
}
