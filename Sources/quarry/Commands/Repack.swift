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
  @Option(help: "run or ship.")
  var profile: SlabProfile
  @OptionGroup var runtime: RuntimeOptions
  @Flag(help: "Replace an existing output.")
  var force = false

  func run() throws {
    let slab = try Slab(path: slab)
    let progress = Progress("repacking")
    defer { progress.finish() }
    try Repacking.repack(
      slab, to: output, profile: profile, replacing: force, pool: runtime.makePool()
    ) { progress.update($0, of: $1) }
    progress.finish()
    let result = try Slab(path: output)
    Console.write(
      "\(output): \(profile), \(Format.bytes(result.fileByteCount)) "
        + "(was \(Format.bytes(slab.fileByteCount))), root \(result.rootDigest)\n")
  }
}
