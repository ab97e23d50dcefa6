import ArgumentParser
import JSON
import ModelFiles

struct Inspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what a slab, a safetensors file or a checkpoint holds.",
    discussion: """
      Reads headers only: the size of the file does not matter. A pattern is a shell pattern: * stands \
      for anything.

      EXAMPLES
        quarry inspect granite.slab
        quarry inspect granite.slab --tensors 'model.layers.0.*'
        quarry inspect granite-3.3-2b-instruct --json
      """)

  @Argument(help: "A slab, a safetensors file or a checkpoint directory.", completion: .file())
  var path: String
  @Option(help: ArgumentHelp("Only tensors whose names match.", valueName: "glob"))
  var tensors = "*"
  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    var inspection = try Inspection(path: path)
    inspection.select(tensors)
    try Console.write((json ? inspection.json.serialized(indented: true) : inspection.text) + "\n")
  }
}
