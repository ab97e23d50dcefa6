import ArgumentParser
import Foundation
import JSON
import ModelFiles
import TensorCore

struct Inspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what a slab, a checkpoint, a safetensors or a GGUF file holds.",
    discussion: """
      Without an option: what it is, parameters by role, sizes, memory to run. The options are views; \
      several of them come one after the other. Only headers are read, so that the size of a file does \
      not matter; --tensor and --values read the tensor that they name.

      --html writes one page with everything: sizes, errors by layer, a byte map, a table that sorts and \
      filters, and for each tensor histograms of its values, scales and codes. It needs no network and no \
      other file. For the histograms every value is read, which takes about fifteen seconds for each billion \
      of parameters on two cores.

      A pattern is a shell pattern: * stands for anything. Ranges are those of numpy: 0:8, 100:, :, -1.

      EXAMPLES
        quarry inspect granite.slab
        quarry inspect granite.slab --tensors '*layers.0.*'
        quarry inspect granite.slab --layers --layout
        quarry inspect granite.slab --tensor model.layers.0.mlp.down_proj.weight
        quarry inspect granite.slab --tensor model.layers.0.mlp.down_proj.weight --source granite-3.3-2b-instruct
        quarry inspect granite.slab --values 'model.norm.weight[0:16]'
        quarry inspect granite-3.3-2b-instruct --tensors --json
        quarry inspect granite-Q4_K_M.gguf --metadata
        quarry inspect granite.slab --html report.html
      """)

  @Argument(
    help: "A slab, a safetensors or GGUF file, a checkpoint directory, or an index of shards.",
    completion: .file())
  var path: String?
  @Option(
    defaultAsFlag: "*",
    help: ArgumentHelp("List the tensors, or those whose names match.", valueName: "glob"))
  var tensors: String?
  @Flag(help: "Sum up each layer.")
  var layers = false
  @Flag(help: "List the small files that travel with the weights.")
  var assets = false
  @Flag(help: "Show what the file says about itself.")
  var metadata = false
  @Flag(help: "Draw where the bytes lie.")
  var layout = false
  @Option(
    help: ArgumentHelp(
      "Show one tensor: how it is stored, how its values, scales and codes are distributed.",
      valueName: "name"))
  var tensor: String?
  @Option(
    help: """
      With --tensor: the checkpoint that a slab was made from, to list the blocks with the largest error.
      """, completion: .directory)
  var source: String?
  @Option(
    help: ArgumentHelp(
      "Print values of one tensor: its first ones, or those of NAME[a:b,c:d].", valueName: "name"))
  var values: String?
  @Option(
    help: ArgumentHelp("Write a page for a browser, made of all views.", valueName: "path"),
    completion: .file(extensions: ["html"]))
  var html: String?
  @Flag(help: "Replace an existing page.")
  var force = false
  @Flag(help: "Print JSON (formats/inspect.md).")
  var json = false
  @OptionGroup var runtime: RuntimeOptions

  mutating func validate() throws {
    // `inspect --tensors FILE`: what was taken for a pattern is the file.
    if path == nil, let pattern = tensors, FileManager.default.fileExists(atPath: pattern) {
      (path, tensors) = (pattern, "*")
    }
    if force, html == nil { throw ValidationError("--force is for --html.") }
    if source != nil, tensor == nil { throw ValidationError("--source is for --tensor.") }
    if path == nil { throw ValidationError("Missing expected argument '<path>'") }
  }

  func run() throws {
    let listing = try open(path ?? "")
    if let html { try writePage(html, listing) }
    let views = try views(of: listing)
    if views.isEmpty { return }
    guard json else {
      let screen = Screen.current
      try Console.write(views.map { $0.text(screen) }.joined(separator: "\n\n") + "\n")
      return
    }
    var members: [(key: String, value: JSONValue)] = [
      ("path", .string(listing.path)), ("kind", .string(listing.kind.rawValue)),
    ]
    members += views.map { ($0.name, $0.json) }
    try Console.write(JSONValue.object(JSONObject(members)).printable + "\n")
  }

  private func open(_ path: String) throws -> ModelListing {
    let listing = try ModelListing(path: path)
    for (path, bytes) in listing.mappings {
      MappedFiles.watch(bytes, path: path, advice: "Look again when it is whole")
    }
    return listing
  }

  private func views(of listing: ModelListing) throws -> [any InspectionView] {
    var views: [any InspectionView] = []
    if let tensors { views.append(TensorsView(listing, pattern: tensors)) }
    if layers { views.append(LayersView(listing: listing)) }
    if assets { views.append(AssetsView(listing: listing)) }
    if metadata { views.append(MetadataView(listing: listing)) }
    if layout { views.append(LayoutView(listing)) }
    if let tensor {
      views.append(
        try TensorView(
          listing, listing.require(tensor), source: source.map(open), pool: runtime.makePool()))
    }
    if let values {
      let slice = try TensorSlice(values, in: listing)
      let rows = try listing.rows(of: slice.tensor, pool: runtime.makePool())
      views.append(ValuesView(slice, rows))
    }
    return views.isEmpty && (html == nil || json) ? [SummaryView(listing: listing)] : views
  }

  private func writePage(_ output: String, _ listing: ModelListing) throws {
    let inputs = listing.files.map(\.path)
    try OutputFile.check(output, replacing: force, inputs: inputs)
    Interrupt.watch()
    let progress = Progress("reading tensors")
    defer { progress.finish() }
    let details = try TensorDetails.all(of: listing, pool: runtime.makePool()) {
      if Interrupt.isRequested {
        progress.finish()
        throw Interrupt.ended(without: output)
      }
      progress.update($0, of: $1, $2)
    }
    let page = Array(ReportPage(listing, details: details).html.text.utf8)
    try OutputFile.write(page, to: output, replacing: force, inputs: inputs)
    progress.finish()
    Interrupt.unwatch()
    Console.note("\(output): \(Format.bytes(page.count))")
  }
}
