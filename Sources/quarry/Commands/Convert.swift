import ArgumentParser
import Conversion
import Foundation
import Inference
import JSON
import ModelFiles
import TensorCore
import Tokenization

struct Convert: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Convert a checkpoint to a slab.",
    discussion: """
      Reads the safetensors files once, layer by layer; memory stays bounded by the largest layer. \
      The slab appears under its name only when it is complete. --dry-run says beforehand what would \
      come of it.

      A conversion that was interrupted, killed or ran out of disk space goes on behind its last whole \
      layer when the same command is run again, and ends with the same file. OUTPUT.partial and \
      OUTPUT.journal hold what it did.

      RECIPES
        q4    4-bit blocks of 16, 8-bit embeddings and output (default)
        q4s   4-bit blocks of 32, 8-bit embeddings and output
        balanced  q4 with 8-bit value projections and 8-bit first and last two layers
        q8    8-bit blocks of 16
        q8s   8-bit blocks of 32
        bf16  unquantized, bfloat16
        f32   unquantized, float32
        Routers of experts stay float32 in those that quantize.
        FILE.yaml  rules of your own for tensors by name, role and layer (formats/recipes.md), as in
            base: q4
            rules:
              - {roles: [value, down], first: 2, last: 2, encoding: q8b16}

      SIZES
        --target-bpw and --target-size read the checkpoint twice. The first time every tensor is \
      quantized in every encoding (q4b32, q4b16, q8b32, q8b16), and what that does to the model is \
      predicted from the calibration text; then those are chosen that do the least damage within the \
      size. The choice is shown, and written as a recipe that makes the same slab again. What was \
      measured is kept in OUTPUT.costs.journal until the slab is there, so that an interrupted \
      conversion goes on behind the last layer that was measured. With --profile ship the file is \
      smaller than asked for, by what compression saves. Without a text (--calibration none, or \
      statistics) nothing is known of how much the model depends on each tensor: then the relative \
      errors of all weights count alike, weighted by importance where there are statistics.

      EXAMPLES
        quarry convert granite-3.3-2b-instruct --dry-run
        quarry convert granite-3.3-2b-instruct -o granite.slab
        quarry convert granite-3.3-2b-instruct -o granite-q8.slab --recipe q8
        quarry convert granite-3.3-2b-instruct -o granite-ship.slab --profile ship
        quarry convert granite-3.3-8b-instruct -o granite.slab --target-size 5.2GB
        quarry convert granite-3.3-2b-instruct -o granite.slab --calibration my-prompts.txt

      JSON
        --json writes one object on each line of standard output:
        event "begin"    tensors, source_bytes, warnings
        event "tensor"   when one is done: name, encoding, error (null for a tensor that stays as it
                         is), done_tensors, total_tensors, done_bytes, total_bytes, seconds
        event "calibration"  while a layer reads the calibration text: layer (from 0), layers,
                         done_tokens, total_tokens, done_bytes, total_bytes, seconds
        event "end"      output, root_digest, calibration (null without), slab_bytes, bits_per_weight,
                         seconds, resumed_after (null unless an interrupted conversion was gone on
                         with), and kinds: tensors of one role and encoding with their error
        event "dry run"  with --dry-run, the only one: checkpoint, output, recipe, recipe_yaml, profile,
                         warnings; tensors with name, role, layer, shape, source_type, encoding,
                         bytes (exact) and rule (counted from 1, the recipe's own before those of its
                         base); weights, bits_per_weight (exact), linear_weights (of the layers, that
                         a token is multiplied with), source_bytes, slab_bytes_at_least
                         and slab_bytes_at_most (apart by what compression may save);
                         disk_bytes_needed, disk_bytes_free, journal_bytes_at_most;
                         memory_bytes_available, and memory with an object for each context and kv
                         (f32, f16, q8): cache_bytes, state_bytes (of Mamba2 layers),
                         total_bytes; decoded_bytes_per_token (weights that are read, at a short
                         context); threads, estimated_seconds,
                         estimated_decode_tokens_per_second_at_most; and problem: why a conversion
                         would fail, or null
        event "error"    message: what ended the work; the exit code is not 0
      """)

  @Argument(help: "A checkpoint directory.", completion: .directory)
  var checkpoint: String
  @Option(
    name: [.short, .long], help: "The slab to write; --dry-run needs none.",
    completion: .file(extensions: ["slab"]))
  var output: String?
  @Option(help: "How tensors are encoded: a preset or a file.")
  var recipe = RecipeArgument.preset(.q4)
  @Option(help: "run (default): weights are mapped as they are; ship: everything is compressed.")
  var profile: SlabProfile?  // a default here would be shown by its number
  @OptionGroup var calibration: CalibrationOptions
  @OptionGroup var target: TargetOptions
  @OptionGroup var runtime: RuntimeOptions
  @Flag(help: "Replace an existing output.")
  var force = false
  @Flag(help: "Discard what an interrupted conversion to this output did.")
  var restart = false
  @Flag(
    help: "Say what would come of it, from the headers alone and within a second; write nothing.")
  var dryRun = false
  @Option(
    help: ArgumentHelp(
      "With --dry-run: lengths of context to say the memory for, as in 8192,65536.",
      valueName: "tokens"))
  var context: CountList?
  @Flag(name: [.short, .long], help: "A line for every tensor.")
  var verbose = false
  @Flag(help: "Events for programs, one JSON object on a line.")
  var json = false

  func validate() throws {
    if output == nil, !dryRun { throw ValidationError("Missing expected argument '--output'.") }
    if target.target != nil, recipe != .preset(.q4) {
      throw ValidationError("A recipe leaves nothing to choose: give --recipe or a size.")
    }
    if let context {
      guard dryRun else { throw ValidationError("--context is for --dry-run.") }
      if context.counts.isEmpty || context.counts.contains(0) {
        throw ValidationError("--context takes positive numbers of tokens.")
      }
    }
    if dryRun, target.target != nil {
      throw ValidationError("--dry-run reads no weights, and choosing encodings needs them.")
    }
  }

  func run() throws {
    do {
      try work()
    } catch let error where json && !(error is ExitCode) {
      try Console.write(
        JSONValue.object(["event": "error", "message": .string("\(error)")]).serialized() + "\n")
      throw error
    }
  }

  private func work() throws {
    Interrupt.watch()
    let source = try Checkpoint(directory: checkpoint)
    let chosen = try chooseEncodings(source)
    let recipe = try chosen?.recipe ?? self.recipe.load()
    let plan = try ConversionPlan(source, recipe: recipe)
    (source.warnings + plan.warnings).forEach(Console.warn)
    try warnAboutText(source)
    if let output, !dryRun {
      try convert(source, plan, recipe, to: output)
      chosen?.journal.remove()
    } else {
      try show(
        DryRun(
          source, recipe: recipe, plan: plan, calibration: possibleCalibration(source, plan),
          profile: profile ?? .run, output: output, replacing: force,
          contexts: context?.counts ?? [], pool: runtime.makePool()))
    }
  }

  /// The recipe for a size, and the journal of choosing it; nil unless one is asked for.
  private func chooseEncodings(
    _ source: Checkpoint
  ) throws -> (recipe: Recipe, journal: PassJournal)? {
    guard let size = target.target, let output else { return nil }
    return try target.recipe(
      for: size, of: source, calibration: calibration.load(), output: output, replacing: force,
      restarting: restart, pool: runtime.makePool()
    ) { json ? Console.note($0) : try Console.write($0 + "\n") }
  }

  /// What the conversion would be calibrated by; says so where it cannot be.
  private func possibleCalibration(
    _ source: Checkpoint, _ plan: ConversionPlan
  ) throws -> Calibration {
    let calibration = try calibration.load()
    guard plan.isQuantized, let reason = try calibration.obstacle(of: source) else {
      return calibration
    }
    CalibrationOptions.warn(.impossible(reason: reason))
    return .none
  }

  private func show(_ dryRun: DryRun) throws {
    try Console.write((json ? dryRun.json.serialized() : dryRun.text(verbose: verbose)) + "\n")
    if let problem = dryRun.disk.problem {
      if !json { throw problem }
      Console.note("error: \(problem)")
      throw ExitCode.failure
    }
  }

  private func convert(
    _ source: Checkpoint, _ plan: ConversionPlan, _ recipe: Recipe, to output: String
  ) throws {
    for file in source.weightFiles {
      MappedFiles.watch(
        file.mappedBytes, path: file.path,
        advice: "\(output) was not written; convert again when the checkpoint is complete",
        removing: SlabWriter.partialPath(of: output), unless: SlabWriter.journalPath(of: output))
    }
    let reporter = ConversionReporter(verbose: verbose, json: json)
    if json {
      try reporter.write(
        .object([
          "event": "begin", "output": .string(output), "recipe": .string(recipe.name),
          "tensors": .integer(plan.entries.count), "source_bytes": .integer(plan.sourceByteCount),
          "warnings": .array((source.warnings + plan.warnings).map { .string($0) }),
        ]))
    }
    let converter = Converter(
      checkpoint: source, recipe: recipe, calibration: try calibration.load(),
      profile: profile ?? .run, pool: runtime.makePool(), replacing: force, restarting: restart,
      resumed: { Console.note("going on behind \($0) of the conversion that was interrupted") },
      progress: { reporter.update($0) },
      isCancelled: { Interrupt.isRequested || reporter.failure != nil })
    let result = Result { () throws(ConversionError) in try converter.run(to: output) }
    reporter.finish()
    switch result {
    case .success(let report):
      if report.wasFinished {
        Console.note(
          "\(output) is complete: the conversion was interrupted behind its end, and left only its "
            + "journal to remove")
      }
      CalibrationOptions.warn(report.calibration)
      try json
        ? reporter.write(report.json(output: output))
        : Console.write(report.text(output: output) + "\n")
    case .failure(.suspended(.cancelled, _, let kept)):
      if let failure = reporter.failure { throw failure }
      throw Interrupt.ended(without: output, kept)
    case .failure(.cancelled):
      if let failure = reporter.failure { throw failure }
      throw Interrupt.ended(without: output)
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
