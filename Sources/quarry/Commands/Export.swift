import ArgumentParser
import Conversion
import ModelFiles
import TensorCore

struct Export: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write a slab for other tools.",
    discussion: """
      safetensors   a checkpoint directory as it is published, which transformers and whatever reads such \
      directories load: weights dequantized to bf16 or f32, in shards with an index; configuration and \
      tokenizer as they came. Config.json still names the element type of the original checkpoint.

      gguf          one file for llama.cpp and what is built on it: weights dequantized and written as \
      f16, bf16 or q8_0 (blocks of 32 that are rounded once more), vectors, routers and learned positions as \
      f32, with tokenizer and chat template. Every architecture that Quarry runs: granite, granitemoe, \
      granitehybrid, llama and starcoder are llama.cpp's names for them.

      compressed-tensors   a checkpoint directory of 8-bit weights, which transformers loads with the \
      package compressed-tensors and vLLM serves on GPUs. Linear layers of a slab of recipe q8 or q8s are \
      dequantized and rounded once more, to signed bytes in groups of 32 columns, each with a bf16 scale; \
      what that added is printed. Embedding, output projection and what is unquantized are bf16, and so are \
      experts, which transformers takes unpacked only: a mixture whose experts are most of it hardly \
      shrinks. GPT BigCode is unpacked by transformers while it loads. Layers of 4 bits are refused: their \
      codebook does not fit a grid of integers.

      Every digest of the slab is checked on the way. The output must not exist, and appears when it \
      is complete.

      EXAMPLES
        quarry export granite.slab -o granite-dequantized
        quarry export granite.slab -o granite-f32 --type f32 --shard-size 2GB
        quarry export granite.slab --to gguf -o granite-f16.gguf
        quarry export granite.slab --to gguf --type q8_0 -o granite-q8_0.gguf
        quarry export granite-q8.slab --to compressed-tensors -o granite-w8a16
      """)

  enum Destination: String, ExpressibleByArgument, CaseIterable {
    case safetensors, gguf
    case compressedTensors = "compressed-tensors"

    var types: [RowEncoding] {
      switch self {
      case .safetensors: CheckpointExport.types
      case .gguf: GGUFExport.types
      case .compressedTensors: [.bf16]
      }
    }
  }

  enum Element: String, ExpressibleByArgument, CaseIterable {
    case bf16, f32, f16
    case q8 = "q8_0"

    var encoding: RowEncoding { RowEncoding(rawValue: rawValue)! }
  }

  @Argument(help: "A slab.", completion: .file(extensions: ["slab"]))
  var slab: String
  @Option(
    name: [.short, .long], help: "What to write: a file for gguf, else a directory.",
    completion: .file())
  var output: String
  @Option(help: "The form to write.")
  var to = Destination.safetensors
  @Option(
    help: """
      Of matrices. safetensors: bf16, or f32, which holds every dequantized value exactly. gguf: f16, \
      bf16, q8_0. compressed-tensors: bf16, of what is no 8-bit layer. (default: bf16, f16 for gguf)
      """)
  var type: Element?
  @Option(
    help: ArgumentHelp(
      "Bytes of weights in a file of safetensors: 5GB, 900MiB.", valueName: "size"))
  var shardSize = FileSize(argument: "5GB")!
  @OptionGroup var runtime: RuntimeOptions

  func validate() throws {
    if let type, !to.types.contains(type.encoding) {
      let types = to.types.map(\.rawValue).joined(separator: ", ")
      throw ValidationError("--to \(to.rawValue) writes \(types), not \(type.rawValue).")
    }
  }

  func run() throws {
    Interrupt.watch()
    let slab = try Slab(path: slab)
    let type = type?.encoding ?? to.types[0]
    let progress = Progress("exporting")
    defer { progress.finish() }
    let written: String
    do {
      written = try write(
        slab, as: type, progress: { progress.update($0, of: $1) },
        isCancelled: { Interrupt.isRequested })
    } catch is CancellationError {
      progress.finish()
      throw Interrupt.ended(without: output)
    }
    progress.finish()
    try Console.write("\(output): \(written)\n")
  }

  private func sizes(_ byteCount: Int, of weights: String, _ slab: Slab) -> String {
    "\(Format.bytes(byteCount)) of \(weights) weights "
      + "(the slab has \(Format.bytes(slab.fileByteCount)))"
  }

  /// - Returns: what there is now.
  private func write(
    _ slab: Slab, as type: RowEncoding, progress: @escaping (Int, Int) -> Void,
    isCancelled: @escaping () -> Bool
  ) throws -> String {
    let pool = runtime.makePool()
    switch to {
    case .safetensors:
      let byteCount = try CheckpointExport.write(
        slab, to: output, as: type, maximumShardByteCount: shardSize.byteCount, pool: pool,
        progress: progress, isCancelled: isCancelled)
      return sizes(byteCount, of: type.rawValue, slab)
    case .gguf:
      let file = slab.path.split(separator: "/").last.map(String.init) ?? slab.path
      let name = file.hasSuffix(".slab") ? String(file.dropLast(5)) : file
      let byteCount = try GGUFExport.write(
        slab, to: output, name: name, as: type, pool: pool, progress: progress,
        isCancelled: isCancelled)
      return sizes(byteCount, of: type.rawValue, slab)
    case .compressedTensors:
      let outcome = try CompressedTensorsExport.write(
        slab, to: output, maximumShardByteCount: shardSize.byteCount, pool: pool,
        progress: progress, isCancelled: isCancelled)
      let experts =
        outcome.expertByteCount == 0
        ? "" : "\nExperts stay bf16: \(Format.bytes(outcome.expertByteCount))."
      return sizes(outcome.byteCount, of: "8-bit and bf16", slab) + experts + """

        Added error, against the slab's weights: NMSE \
        \(Format.significant(outcome.normalizedMeanSquaredError)); most in \(outcome.worstTensor), \
        \(Format.significant(outcome.worstError))
        """
    }
  }
}
