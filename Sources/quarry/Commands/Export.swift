import ArgumentParser
import Conversion
import ModelFiles
import TensorCore

struct Export: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write a slab for other tools.",
    discussion: """
      safetensors   a checkpoint directory as it is published, which transformers and whatever reads such \
      directories load: weights dequantized, in shards with an index; configuration and tokenizer as \
      they came. Config.json still names the element type of the original checkpoint.

      Every digest of the slab is checked on the way. The directory must not exist, and appears when it \
      is complete.

      EXAMPLES
        quarry export granite.slab -o granite-dequantized
        quarry export granite.slab -o granite-f32 --type f32 --shard-size 2GB
      """)

  enum Destination: String, ExpressibleByArgument, CaseIterable { case safetensors }
  enum Element: String, ExpressibleByArgument, CaseIterable {
    case bf16
    case f32

    var type: ElementType { self == .bf16 ? .bf16 : .f32 }
  }

  @Argument(help: "A slab.", completion: .file(extensions: ["slab"]))
  var slab: String
  @Option(name: [.short, .long], help: "The directory to write.", completion: .directory)
  var output: String
  @Option(help: "The form to write.")
  var to = Destination.safetensors
  @Option(help: "bf16, or f32, which holds every dequantized value exactly.")
  var type = Element.bf16
  @Option(help: ArgumentHelp("Bytes of weights in a file: 5GB, 900MiB.", valueName: "size"))
  var shardSize = FileSize(argument: "5GB")!
  @OptionGroup var runtime: RuntimeOptions

  func run() throws {
    Interrupt.watch()
    let slab = try Slab(path: slab)
    let progress = Progress("exporting")
    defer { progress.finish() }
    let byteCount: Int
    do {
      byteCount = try CheckpointExport.write(
        slab, to: output, as: type.type, maximumShardByteCount: shardSize.byteCount,
        pool: runtime.makePool(), progress: { progress.update($0, of: $1) },
        isCancelled: { Interrupt.isRequested })
    } catch is CancellationError {
      progress.finish()
      throw Interrupt.ended(without: output)
    }
    progress.finish()
    try Console.write(
      "\(output): \(Format.bytes(byteCount)) of \(type.rawValue) weights "
        + "(the slab has \(Format.bytes(slab.fileByteCount)))\n")
  }
}
