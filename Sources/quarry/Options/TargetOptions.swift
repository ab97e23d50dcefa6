import ArgumentParser
import Conversion
import Foundation
import ModelFiles
import TensorCore

/// A size for which encodings are chosen.
struct TargetOptions: ParsableArguments {
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Choose every tensor's encoding so that all have at most so many bits for each weight.",
      valueName: "bits"))
  var targetBpw: Double?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "The same for the size of the file: 4.2GB, 900MiB or bytes.", valueName: "size"))
  var targetSize: FileSize?
  @Option(
    help: "Where to write the recipe that was chosen (default: beside the slab, .recipe.yaml).",
    completion: .file(extensions: ["yaml"]))
  var writeRecipe: String?

  func validate() throws {
    if targetBpw != nil, targetSize != nil {
      throw ValidationError("Give either --target-bpw or --target-size.")
    }
    if let targetBpw, !(targetBpw > 0 && targetBpw <= 32) {
      throw ValidationError("--target-bpw must be more than 0 and at most 32, not \(targetBpw).")
    }
    if writeRecipe != nil, target == nil {
      throw ValidationError("--write-recipe needs --target-bpw or --target-size.")
    }
  }

  /// Nil unless encodings are to be chosen.
  var target: SizeTarget? {
    targetBpw.map { .bitsPerWeight($0) } ?? targetSize.map { .fileByteCount($0.byteCount) }
  }

  /// Chooses encodings, says which, and writes them as a recipe.
  ///
  /// What is measured for that is kept in a journal, in case the work is interrupted.
  ///
  /// - Parameters:
  ///   - target: ``target``.
  ///   - output: the slab that will be written.
  ///   - replacing: whether slab and recipe may exist.
  ///   - restarting: whether what an interrupted run measured is discarded.
  ///   - show: what is given the table.
  /// - Returns: also the journal, to be removed once there is a slab.
  func recipe(
    for target: SizeTarget, of source: Checkpoint, calibration: Calibration, output: String,
    replacing: Bool, restarting: Bool, pool: WorkerPool, show: (String) throws -> Void
  ) throws -> (recipe: Recipe, journal: PassJournal) {
    let path = writeRecipe ?? output + ".recipe.yaml"
    let progress = Progress("choosing encodings")
    let measurement = CostMeasurement(
      checkpoint: source, calibration: calibration, pool: pool,
      progress: { progress.update($0, of: $1) }, isCancelled: { Interrupt.isRequested })
    try measurement.check(target)
    let directory = URL(filePath: path).deletingLastPathComponent().path
    guard FileManager.default.isWritableFile(atPath: directory) else {
      throw InputError("cannot write \(path): \(directory) is no directory that can be written to")
    }
    let journal = try measurement.journal(for: output, restarting: restarting)
    // An interrupted run may have written the recipe, which will be the same again.
    let existing = replacing ? nil : FileManager.default.contents(atPath: path)
    let refusal = InputError(
      "\(path) exists already; convert with --recipe \(path) to use it, or give --force to choose again"
    )
    if existing != nil, journal.resumption == nil { throw refusal }
    let place = SlabPreflight(
      path: output, replacing: replacing, inputs: source.files, expectedByteCount: 0)
    if let problem = place.problem { throw problem }
    if let resumption = journal.resumption {
      Console.note("choosing encodings: \(resumption.summary) were measured before")
    }
    let result = Result { () throws(ConversionError) in try measurement.run(journal: journal) }
    progress.finish()
    if case .failure(let error) = result, case .cancelled = error {
      guard let kept = journal.recorded else { throw Interrupt.ended(without: output) }
      Console.note(
        "interrupted: what was measured of \(kept) is kept in \(journal.path); run the same command "
          + "to go on, or remove the file")
      throw Interrupt.exitCode
    }
    let costs = try result.get()
    let choice: TargetChoice
    do {
      choice = try costs.choice(for: target)
    } catch {
      Console.note("\(journal.path) keeps what was measured: another size takes no time")
      throw error
    }
    let recipe = choice.recipe
    if let existing, existing != Data(recipe.yaml.utf8) { throw refusal }
    do {
      try recipe.yaml.write(toFile: path, atomically: true, encoding: .utf8)
    } catch {
      throw InputError("cannot write \(path): \(InputFiles.reason(error))")
    }
    try show(choice.table + "\nrecipe \(path)\n")
    return (recipe, journal)
  }
}

/// Bytes as people write them: `4.2GB`, `900MiB`, `123456`.
struct FileSize: ExpressibleByArgument {
  let byteCount: Int
  /// As it was given.
  let defaultValueDescription: String

  init?(argument: String) {
    guard let match = argument.wholeMatch(of: /([0-9]+(?:\.[0-9]+)?) ?([kKMGT]?)(i?)B?/),
      let number = Double(match.1)
    else { return nil }
    let base = match.3.isEmpty ? 1000.0 : 1024
    let powers = ["": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4]
    if match.2.isEmpty, !match.3.isEmpty { return nil }
    let bytes = number * pow(base, Double(powers[String(match.2)]!))
    guard bytes >= 1, bytes < 0x1p62 else { return nil }
    byteCount = Int(bytes)
    defaultValueDescription = argument
  }
}

extension TargetChoice {
  /// What was chosen, for people.
  fileprivate var table: String {
    let rows = rows.map { row in
      [
        row.role.rawValue, row.encoding.name,
        (row.layers?.ranges ?? []).map {
          $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)"
        }.joined(separator: ","),
        "\(row.tensorCount)", "\(row.weightCount)", Format.decimal(row.damageShare * 100, 1),
      ]
    }
    let beside = [Recipe.q4s, .q4, .balanced, .q8s, .q8].compactMap { recipe in
      damage(relativeTo: recipe).map { "\(Format.significant($0)) times that of \(recipe.name)" }
    }
    return """
      \(Format.table(
        ["tensors", "encoding", "layers", "count", "weights", "% of damage"], rows, right: [3, 4, 5]))
      \(Format.decimal(bitsPerWeight, 3)) bits per weight; predicted damage \
      \(beside.joined(separator: ", "))
      """
  }
}
