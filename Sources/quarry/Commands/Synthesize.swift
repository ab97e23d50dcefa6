import ArgumentParser
import Conversion
import Foundation
import ModelFiles
import Pebble

struct Synthesize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make a model of random weights in any shape.",
    discussion: """
      Writes a checkpoint directory in the published form for a config.json: bfloat16 weights with \
      heavy tails and outlier channels, in shards, and Pebble's tokenizer where the vocabulary has \
      room for it. The same seed gives the same bytes. It computes and converts like a real model of \
      that shape, and says nothing sensible.

      With --slab it is quantized on the way, without a checkpoint on the disk. With --headers the \
      weights are left out: the files have their lengths and hardly take space, which is all that \
      `quarry convert --dry-run` and `quarry inspect` ask for. So sizes, memory and speed of a model \
      are known from its config.json, before anything else is downloaded.

      EXAMPLES
        quarry synthesize config.json -o synthetic
        quarry synthesize config.json -o synthetic.slab --slab --recipe q8
        quarry synthesize config.json -o empty --headers && quarry convert empty --dry-run
      """)

  @Argument(help: "A config.json.", completion: .file(extensions: ["json"]))
  var config: String
  @Option(name: [.short, .long], help: "The directory, or with --slab the file, to write.")
  var output: String
  @Option(parsing: .unconditional, help: "Seed of the random numbers.")
  var seed: UInt64 = 0
  @Flag(help: "Write a slab.")
  var slab = false
  @Flag(help: "Leave the weights out: headers alone, for dry runs.")
  var headers = false
  @Option(help: "With --slab: how tensors are encoded, a preset or a file (quarry convert --help).")
  var recipe: RecipeArgument?
  @OptionGroup var runtime: RuntimeOptions
  @Flag(help: "With --slab: replace an existing output.")
  var force = false

  func validate() throws {
    if !slab, recipe != nil || force {
      throw ValidationError("--recipe and --force are for --slab.")
    }
    if slab, headers { throw ValidationError("A slab has weights: give --slab or --headers.") }
  }

  func run() throws {
    Interrupt.watch()
    let model = try InputFiles.naming(config) { json in
      try SyntheticModel(configuration: json, seed: seed)
    }
    let assets = try tokenizer(vocabularySize: model.configuration.vocabularySize)
    let pool = runtime.makePool()
    let progress = Progress("writing")
    let monitor = SyntheticModel.Monitor(
      progress: { progress.update($0, of: $1) }, isCancelled: { Interrupt.isRequested })
    do {
      if slab {
        _ = try model.writeSlab(
          to: output, recipe: recipe?.load() ?? .q4, assets: assets, replacing: force, pool: pool,
          monitor: monitor)
      } else if headers {
        try model.writeHeaders(to: output, assets: assets)
      } else {
        try model.writeCheckpoint(to: output, assets: assets, pool: pool, monitor: monitor)
      }
      progress.finish()
    } catch {
      progress.finish()
      guard error is CancellationError else { throw error }
      throw Interrupt.ended(without: output)
    }
    try Console.write(
      "\(output): \(Format.bytes(model.byteCount)) of bfloat16 weights, "
        + (headers ? "left out\n" : "seed \(seed)\n"))
  }

  /// Pebble's, where all its tokens have a place.
  private func tokenizer(vocabularySize: Int) throws -> [SlabAsset] {
    let assets = try Checkpoint.assets(directory: Pebble.directory.path)
    let pebble = try ModelConfiguration(json: assets.first { $0.name == "config.json" }!.bytes)
    guard vocabularySize >= pebble.vocabularySize else { return [] }
    let names = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
    return assets.filter { names.contains($0.name) }
  }
}
