import ArgumentParser
import Conversion
import Foundation
import Inference
import ModelFiles
import TensorCore
import Tokenization

struct Convert: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Convert a checkpoint to a slab.",
    discussion: """
      Reads the safetensors files once, tensor by tensor; memory stays bounded by the largest tensor. \
      The slab appears under its name only when it is complete.

      RECIPES
        q4    4-bit blocks of 16, 8-bit embeddings and output (default)
        q4s   4-bit blocks of 32, 8-bit embeddings and output
        q8    8-bit blocks of 16
        q8s   8-bit blocks of 32
        bf16  unquantized, bfloat16
        f32   unquantized, float32

      EXAMPLES
        quarry convert granite-3.3-2b-instruct -o granite.slab
        quarry convert granite-3.3-2b-instruct -o granite-q8.slab --recipe q8
        quarry convert granite-3.3-2b-instruct -o granite-ship.slab --profile ship
      """)

  @Argument(help: "A checkpoint directory.", completion: .directory)
  var checkpoint: String
  @Option(
    name: [.short, .long], help: "The slab to write.", completion: .file(extensions: ["slab"]))
  var output: String
  @Option(help: "How tensors are encoded.")
  var recipe = RecipeArgument.preset(.q4)
  @Option(help: "run (default): weights are mapped as they are; ship: everything is compressed.")
  var profile: SlabProfile?  // a default here would be shown by its number
  @OptionGroup var runtime: RuntimeOptions
  @Flag(help: "Replace an existing output.")
  var force = false

  func run() throws {
    Interrupt.watch()
    let source = try Checkpoint(directory: checkpoint)
    source.warnings.forEach(Console.warn)
    try warnAboutText(source)
    for file in source.weightFiles {
      MappedFiles.watch(
        file.mappedBytes, path: file.path,
        advice: "\(output) was not written; convert again when the checkpoint is complete",
        removing: SlabWriter.partialPath(of: output))
    }
    let recipe = try recipe.load()
    try ConversionPlan(source, recipe: recipe).warnings.forEach(Console.warn)
    let progress = Progress("converting")
    let converter = Converter(
      checkpoint: source, recipe: recipe, profile: profile ?? .run, pool: runtime.makePool(),
      replacing: force,
      progress: { progress.update($0.doneByteCount, of: $0.totalByteCount, $0.tensor ?? "") },
      isCancelled: { Interrupt.isRequested })
    let result = Result { () throws(ConversionError) in try converter.run(to: output) }
    progress.finish()
    switch result {
    case .success(let report): try Console.write(report.text(output: output) + "\n")
    case .failure(.cancelled): throw Interrupt.ended(without: output)
    case .failure(let error): throw error
    }
  }

  /// Says before the work what would be met after it.
  private func warnAboutText(_ source: Checkpoint) throws {
    let assets = try ModelAssets(path: source.directory) { name in
      source.assets.first { $0.name == name }?.bytes
    }
    if case .failure(let error)? = assets.tokenizer {
      Console.warn(
        "tokenizer.json cannot be executed, so the slab will understand token ids only: \(error)")
    }
    if case .failure(let error)? = assets.chatTemplate {
      Console.warn("the slab will need another template (--chat-template) to chat: \(error)")
    }
  }
}

extension ConversionReport {
  /// What was made, for people.
  func text(output: String) -> String {
    let rows = kinds.map { kind in
      [
        kind.role.rawValue, kind.encoding?.name ?? "f32", "\(kind.tensorCount)",
        "\(kind.weightCount)", Format.decimal(kind.bitsPerWeight, 2),
        Format.significant(kind.normalizedMeanSquaredError),
        Format.significant(kind.maximumAbsoluteError),
        Format.decimal(kind.minimumCosineSimilarity, 5), kind.worstTensor?.name ?? "",
      ]
    }
    let seconds = duration / .seconds(1)
    return """
      \(Format.table(
        ["tensors", "encoding", "count", "weights", "bits", "NMSE", "max error", "least cosine", "worst"],
        rows, right: [2, 3, 4, 5, 6, 7]))
      \(output): \(Format.bytes(sourceByteCount)) of weights became \(Format.bytes(fileByteCount)), \
      \(Format.decimal(bitsPerWeight, 2)) bits per weight, in \(Format.decimal(seconds, 1)) s \
      (\(Format.bytes(Int(Double(sourceByteCount) / max(seconds, 1e-9))))/s)
      root \(rootDigest)
      """
  }
}
