import ArgumentParser
import Conversion
import Foundation
import Inference
import JSON
import ModelFiles
import Pebble
import TensorCore
import Tokenization

/// The slab that a command runs.
struct SlabArgument: ParsableArguments {
  @Argument(
    help: "The slab; without one, the bundled demonstration model Pebble.", completion: .file())
  var slab: String?

  init() {}

  init(slab: String) { self.slab = slab }

  /// - Parameter isCancelled: whether to give up; by default Ctrl-C decides.
  func open(pool: WorkerPool, isCancelled: (@Sendable () -> Bool)? = nil) throws -> Slab {
    if let slab {
      guard !InputFiles.isDirectory(slab) else {
        throw InputError(
          "\(slab) is a directory, not a slab; make one of it: quarry convert \(slab) -o model.slab"
        )
      }
      let opened = try Slab(path: slab)
      MappedFiles.watch(
        opened.mappedBytes, path: slab,
        advice: "Replace a slab by renaming another one over it, or read it with --load copy")
      return opened
    }
    if let isCancelled { return try Self.openPebble(pool: pool, isCancelled: isCancelled) }
    Interrupt.watch()
    defer { Interrupt.unwatch() }
    return try Self.openPebble(pool: pool) { Interrupt.isRequested }
  }

  /// Converts the bundled checkpoint, uncalibrated, which takes a moment, to a file that nobody else sees.
  private static func openPebble(
    pool: WorkerPool, isCancelled: @escaping @Sendable () -> Bool
  ) throws -> Slab {
    guard InputFiles.isDirectory(Pebble.directory.path) else {
      throw InputError(
        "the bundled model is not at \(Pebble.directory.path); give a slab, or put the folder "
          + "quarry_Pebble.resources of the build beside the program")
    }
    let directory = FileManager.default.temporaryDirectory.appending(
      path: "quarry-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let path = directory.appending(path: "pebble.slab").path
    let checkpoint = try Checkpoint(directory: Pebble.directory.path)
    let converter = Converter(
      checkpoint: checkpoint, recipe: .q4, calibration: .none, profile: .run, pool: pool,
      isCancelled: isCancelled)
    let outcome = Result { () throws(ConversionError) in try converter.run(to: path) }
    if case .failure(.cancelled) = outcome { throw Interrupt.exitCode }
    _ = try outcome.get()
    return try Slab(path: path)  // stays mapped after its name is gone
  }
}

/// A slab or a checkpoint directory, of which only assets are needed.
struct AssetSource: ParsableArguments {
  @Argument(help: "A slab or a checkpoint directory.", completion: .file())
  var source: String

  func load() throws -> ModelAssets {
    if !InputFiles.isDirectory(source) { return try ModelAssets(slab: try Slab(path: source)) }
    let assets = try Checkpoint.assets(directory: source)
    return try ModelAssets(path: source) { name in assets.first { $0.name == name }?.bytes }
  }

  func tokenizer() throws -> Tokenizer {
    guard let tokenizer = try load().tokenizer?.get() else {
      throw InputError("\(source) has no tokenizer.json; put the file beside config.json")
    }
    return tokenizer
  }
}
