import ArgumentParser
import Conversion
import Foundation
import ModelFiles

struct Calibrate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Find out which inputs of a model's layers matter, for later conversions.",
    discussion: """
      Runs a text through the checkpoint, a layer at a time, and writes the mean square of every input \
      column of every linear layer. `quarry convert` does the same by itself; with --calibration and \
      this file it need not, and makes the same slab.

      EXAMPLES
        quarry calibrate granite-3.3-2b-instruct -o granite-statistics.safetensors
        quarry convert granite-3.3-2b-instruct -o granite.slab --calibration granite-statistics.safetensors
      """)

  @Argument(help: "A checkpoint directory.", completion: .directory)
  var checkpoint: String
  @Option(
    name: [.short, .long], help: "The statistics file to write.",
    completion: .file(extensions: ["safetensors"]))
  var output: String
  @OptionGroup var calibration: CalibrationOptions
  @OptionGroup var runtime: RuntimeOptions

  func validate() throws {
    if !output.hasSuffix(".safetensors") {
      throw ValidationError("The name of a statistics file ends with .safetensors.")
    }
  }

  func run() throws {
    Interrupt.watch()
    let source = try Checkpoint(directory: checkpoint)
    for file in source.weightFiles {
      MappedFiles.watch(
        file.mappedBytes, path: file.path,
        advice: "\(output) was not written; calibrate again when the checkpoint is complete")
    }
    let progress = Progress("calibrating")
    let calibration = try calibration.load()
    let result = Result { () throws(ConversionError) in
      try ImportanceStatistics.gather(
        source, calibration: calibration, pool: runtime.makePool(),
        progress: { progress.update($0, of: $1) }, isCancelled: { Interrupt.isRequested })
    }
    progress.finish()
    switch result {
    case .success(let statistics):
      try statistics.write(to: output, inputs: source.files)
      try Console.write("\(output): \(statistics.moments.count) inputs, \(statistics.origin)\n")
    case .failure(.cancelled): throw Interrupt.ended(without: output)
    case .failure(let error): throw error
    }
  }
}
