import ArgumentParser
import Conversion

@main
struct Quarry: ParsableCommand {
  static let version = Converter.version
  /// When the program began.
  static let start = ContinuousClock.now

  static let configuration = CommandConfiguration(
    commandName: "quarry",
    abstract: "Quantized Granite language models on modest machines.",
    discussion: """
      A checkpoint (a downloaded directory of safetensors files) becomes one file, a slab; the slab \
      can be inspected, verified and run.

      EXAMPLES
        quarry convert granite-3.3-2b-instruct -o granite.slab
        quarry inspect granite.slab
        quarry generate granite.slab -p "Name three kinds of stone."
        quarry chat
        quarry serve granite.slab

      EXIT CODES
        0    success
        1    the work failed: unreadable or damaged input (also a file that another program cut
             short while it was in use), no space, an unsupported model; `quarry diff` ends with 1
             where two models differ, and with 2 where it failed
        64   the command line was not understood
        130  interrupted by Ctrl-C; nothing half-written is left behind, but for what `quarry convert` \
             says that it keeps for another run
        143  ended by SIGTERM, which does the same

      Results go to standard output; progress, warnings and errors to standard error. QUARRY_ISA \
      (scalar, avx2, avxvnni, avx512vnni, neon) forces an instruction set.
      """,
    version: version,
    subcommands: [
      Convert.self, Calibrate.self, Inspect.self, Diff.self, Verify.self, Repair.self,
      Repack.self, Export.self, Generate.self, Chat.self, Serve.self, AnswerBatch.self,
      Evaluate.self, Bench.self,
      Render.self, Logits.self, Tokenize.self, Detokenize.self, Synthesize.self, Doctor.self,
    ])

  static func main() {
    _ = start
    Console.reserveDescriptors()
    Console.surviveFailedWrites()
    MappedFiles.installHandler()
    main(nil)
  }
}
