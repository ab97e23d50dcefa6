import Foundation
import JSON
import ModelFiles
import TensorCore

extension Inspection {
  init(path: String) throws {
    if InputFiles.isDirectory(path) {
      let checkpoint = Result { () throws(CheckpointError) in try Checkpoint(directory: path) }
      if case .failure(let error) = checkpoint, error.reason == .configuration {
        try self.init(directory: path, refusal: error)
      } else {
        self.init(try checkpoint.get())
      }
      return
    }
    let slab = Result { () throws(SlabError) in try Slab(path: path) }
    if case .failure(let error) = slab, error.reason == .notASlab {
      self.init(try Self.safetensors(path), path: path)
    } else {
      self.init(try slab.get())
    }
  }

  private static func safetensors(_ path: String) throws -> SafetensorsFile {
    do {
      return try SafetensorsFile(path: path)
    } catch {
      if path.hasSuffix(".safetensors") { throw error }
      throw InputError("\(path) is neither a slab nor a safetensors file: \(error)")
    }
  }

  private init(_ slab: Slab) {
    path = slab.path
    kind = "slab"
    facts =
      [
        ("profile", .string(slab.profile.name)),
        ("root digest", .string("\(slab.rootDigest)")),
        ("file bytes", .integer(slab.fileByteCount)),
      ]
      + slab.metadata.sorted { $0.key < $1.key }.map { key, value in
        let lines = value.split(separator: "\n").map { JSONValue.string(String($0)) }
        return (key, lines.count > 1 ? .array(lines) : .string(value))
      } + Self.cacheFacts(slab.asset(named: "config.json"))
    configuration =
      slab.asset(named: "config.json").flatMap { try? JSONValue(parsing: $0) } ?? .null
    assets = slab.assets.map { ($0.name, $0.bytes.count) }
    tensors = slab.tensorsInFileOrder.map { tensor in
      Tensor(
        name: tensor.name, shape: tensor.shape, sourceType: tensor.sourceType.rawValue,
        encoding: tensor.encoding.name, layout: "\(tensor.layout)", offset: tensor.offset,
        storedByteCount: tensor.storedByteCount, logicalByteCount: tensor.logicalByteCount,
        statistics: tensor.statistics)
    }
  }

  private init(_ checkpoint: Checkpoint) {
    let warnings = ("warnings", JSONValue.array(checkpoint.warnings.map { .string($0) }))
    self.init(
      directory: checkpoint.directory, files: checkpoint.weightFileNames, fact: warnings,
      assets: checkpoint.assets, tensors: checkpoint.tensors)
  }

  /// A checkpoint that cannot be converted: what lies in its files.
  private init(directory: String, refusal: CheckpointError) throws {
    let stored = try Checkpoint.storedTensors(directory: directory)
    self.init(
      directory: directory, files: stored.files,
      fact: ("note", .string("it cannot be converted: \(refusal.found ?? "\(refusal)")")),
      assets: try Checkpoint.assets(directory: directory), tensors: stored.tensors)
  }

  private init(
    directory: String, files: [String], fact: (name: String, value: JSONValue),
    assets: [SlabAsset], tensors: [TensorDescriptor]
  ) {
    path = directory
    kind = "checkpoint"
    facts =
      [("files", .array(files.map { .string($0) })), fact]
      + Self.cacheFacts(assets.first { $0.name == "config.json" }?.bytes)
    configuration =
      assets.first { $0.name == "config.json" }.flatMap { try? JSONValue(parsing: $0.bytes) }
      ?? .null
    self.assets = assets.map { ($0.name, $0.bytes.count) }
    self.tensors = tensors.map(Tensor.init)
  }

  private init(_ file: SafetensorsFile, path: String) {
    self.path = path
    kind = "safetensors"
    facts = [("tensor bytes", .integer(file.tensors.reduce(0) { $0 + $1.byteCount }))]
    configuration = .null
    assets = []
    tensors = file.tensors.map(Tensor.init)
  }
}

extension Inspection.Tensor {
  fileprivate init(_ tensor: TensorDescriptor) {
    self.init(
      name: tensor.name, shape: tensor.shape, sourceType: tensor.dataType.rawValue,
      encoding: tensor.dataType.rawValue.lowercased(), layout: "plain",
      offset: tensor.byteRange.lowerBound, storedByteCount: tensor.byteCount,
      logicalByteCount: tensor.byteCount, statistics: nil)
  }
}
