import ArgumentParser
import JSON
import ModelFiles

struct Diff: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what differs between two models.",
    discussion: """
      Each is a slab, a checkpoint directory, an index of shards or a safetensors file. Weights of two \
      slabs are compared by their digests, and read only where these differ: two slabs of one model take no time, whatever \
      their size. Values are compared dequantized, A being the original that errors are relative to.

      Listed are tensors and assets that only one side has, tensors that are encoded otherwise or lie \
      elsewhere, how far values are apart, texts line by line, and metadata. On a terminal what only A has \
      is red, what only B has green, and what differs yellow (not if NO_COLOR is set).

      EXIT CODES
        0    the same model: equal values and assets, however encoded, ordered and compressed
        1    another model
        2    the comparison failed

      EXAMPLES
        quarry diff granite-q4.slab granite-q8.slab
        quarry diff granite.slab granite-ship.slab && echo the same
        quarry diff granite-3.3-2b-instruct granite.slab --json
      """)

  @Argument(
    help: "The original: a slab, a checkpoint directory or a safetensors file.", completion: .file()
  )
  var a: String
  @Argument(help: "What it is compared with.", completion: .file())
  var b: String
  @OptionGroup var runtime: RuntimeOptions
  @Flag(help: "Print JSON (formats/diff.md).")
  var json = false

  private static let different = ExitCode(1)
  private static let failed = ExitCode(2)

  func run() throws {
    let isSame: Bool
    do {
      isSame = try compare()
    } catch let code as ExitCode where code != .failure {
      throw code  // a signal
    } catch {
      // Nobody reading the output is silent, as elsewhere.
      if !(error is ExitCode) { Console.note("Error: \(error)") }
      throw Self.failed
    }
    if !isSame { throw Self.different }
  }

  private func compare() throws -> Bool {
    let (old, new) = (try ModelListing(path: a), try ModelListing(path: b))
    for model in [old, new] {
      if model.kind == .gguf {
        throw ValidationError(
          "\(model.path): a GGUF file names its tensors otherwise; slabs and checkpoints are compared."
        )
      }
      for (path, bytes) in model.mappings {
        MappedFiles.watch(
          bytes, path: path, advice: "Compare again when it is whole",
          exitStatus: Self.failed.rawValue)
      }
    }
    Interrupt.watch()
    let progress = Progress("comparing")
    defer { progress.finish() }
    guard
      let difference = try ModelDifference.compare(
        old, new, pool: runtime.makePool(), progress: { progress.update($0, of: $1) },
        isCancelled: { Interrupt.isRequested })
    else { throw Interrupt.exitCode }
    progress.finish()
    let report = DiffReport(old: old, new: new, difference: difference)
    let text = json ? report.json.serialized(indented: true) : report.text(.current)
    try Console.write(text + "\n")
    return difference.isSameModel
  }
}
