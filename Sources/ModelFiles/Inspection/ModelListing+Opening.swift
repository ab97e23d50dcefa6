import JSON
import TensorCore

extension ModelListing {
  /// Opens a slab, a safetensors file, a GGUF file, a checkpoint directory, a directory of shards, or
  /// the index of shards.
  ///
  /// - Throws: ``SlabError``, ``CheckpointError``, ``GGUFError`` or, for what is none of them,
  ///   ``FileError``.
  public init(path: String) throws {
    if SystemCalls.isDirectory(path) {
      try self.init(directory: path, path: path)
    } else if path.lastPathComponent == ShardIndex.fileName {
      try self.init(directory: SystemCalls.directory(of: path), path: path)
    } else {
      let slab = Result { () throws(SlabError) in try Slab(path: path) }
      if case .failure(let error) = slab, error.reason == .notASlab {
        try self.init(otherFile: path)
      } else {
        self.init(try slab.get())
      }
    }
  }

  private init(otherFile path: String) throws {
    let gguf = Result { () throws(GGUFError) in try GGUFFile(path: path) }
    guard case .failure(let error) = gguf, error.reason == .notGGUF,
      !path.hasSuffix(".gguf")
    else {
      self.init(try gguf.get())
      return
    }
    do {
      self.init(try SafetensorsFile(path: path))
    } catch {
      if path.hasSuffix(".safetensors") { throw error }
      throw FileError(
        path: path,
        reason: "neither a slab nor a GGUF file nor a safetensors file (\(error.reason.rawValue))")
    }
  }

  /// Of a slab that is open already.
  public init(_ slab: Slab) {
    let scales = Set(slab.tensors.compactMap { $0.columnScales.map { Array($0.utf8) } })
    self.init(
      path: slab.path, kind: .slab, files: [File(path: slab.path, byteCount: slab.fileByteCount)],
      tensors: slab.tensorsInFileOrder.map { tensor in
        ListedTensor(
          name: tensor.name, shape: tensor.shape,
          role: scales.contains(Array(tensor.name.utf8))
            ? ListedTensor.columnScalesRole
            : TensorRole(tensorName: tensor.name)?.rawValue ?? "other",
          layer: TensorRole.layer(ofTensor: tensor.name), encoding: tensor.encoding.name,
          layout: "\(tensor.layout)", sourceType: tensor.sourceType.rawValue, file: 0,
          offset: tensor.offset, storedByteCount: tensor.storedByteCount,
          logicalByteCount: tensor.logicalByteCount, statistics: tensor.statistics,
          columnScales: tensor.columnScales, digest: tensor.digest)
      },
      assets: slab.assets,
      metadata: slab.metadata.sorted { precedes($0.key, $1.key) }
        .map { MetadataEntry($0.key, text: $0.value) },
      facts: ModelFacts(configuration: slab.asset(named: "config.json")), notes: [],
      source: .slab(slab))
  }

  private init(_ file: SafetensorsFile) {
    self.init(
      path: file.path, kind: .safetensors, files: [File(file)],
      tensors: file.tensors.map { ListedTensor($0, file: 0) }, assets: [],
      metadata: file.metadata.map { MetadataEntry($0.key, text: $0.value) },
      facts: ModelFacts(configuration: nil), notes: [], source: .safetensors([file]))
  }

  /// A checkpoint that cannot be converted is listed too, with a note that says why.
  private init(directory: String, path: String) throws {
    let weights = try CheckpointWeights(directory: directory)
    let assets = try CheckpointAssets(directory: directory)
    let configuration = assets.assets.first { $0.name == "config.json" }?.bytes
    var notes: [String] = []
    if configuration != nil {
      let checkpoint = Result { () throws(CheckpointError) in try Checkpoint(directory: directory) }
      switch checkpoint {
      case .success(let checkpoint): notes = checkpoint.warnings
      case .failure(let error) where error.reason == .configuration:
        notes = ["it cannot be converted: \(error.found ?? "\(error)")"]
      case .failure(let error): notes = ["it cannot be converted: \(error)"]
      }
    }
    self.init(
      path: path, kind: configuration == nil ? .shardSet : .checkpoint,
      files: weights.files.map(File.init),
      tensors: weights.files.enumerated().flatMap { index, file in
        file.tensors.map { ListedTensor($0, file: index) }
      },
      assets: assets.assets,
      metadata: weights.files.count == 1
        ? weights.files[0].metadata.map { MetadataEntry($0.key, text: $0.value) }
        : weights.files.flatMap { file in
          file.metadata.map {
            MetadataEntry(file.path.lastPathComponent + ": " + $0.key, text: $0.value)
          }
        },
      facts: ModelFacts(configuration: configuration), notes: notes,
      source: .safetensors(weights.files))
  }

  private init(_ file: GGUFFile) {
    let facts = ModelFacts(file)
    let part = file.value("split.count")?.integer.flatMap { count in
      count > 1
        ? "it is one of \(count) files of the model; the others are not looked at" : nil
    }
    self.init(
      path: file.path, kind: .gguf,
      files: [File(path: file.path, byteCount: file.mappedBytes.count)],
      tensors: file.tensors.map(ListedTensor.init), assets: [],
      metadata: file.metadata.map { MetadataEntry($0.key, $0.value) }, facts: facts,
      notes: part.map { [$0] } ?? [], source: .gguf(file))
  }
}

extension ModelListing.File {
  fileprivate init(_ file: SafetensorsFile) {
    self.init(path: file.path, byteCount: file.mappedBytes.count)
  }
}

extension ListedTensor {
  fileprivate init(_ tensor: TensorDescriptor, file: Int) {
    self.init(
      name: tensor.name, shape: tensor.shape,
      role: TensorRole(tensorName: tensor.name)?.rawValue ?? "other",
      layer: TensorRole.layer(ofTensor: tensor.name),
      encoding: tensor.dataType.rawValue.lowercased(), layout: "plain",
      sourceType: tensor.dataType.rawValue, file: file, offset: tensor.byteRange.lowerBound,
      storedByteCount: tensor.byteCount, logicalByteCount: tensor.byteCount, statistics: nil,
      columnScales: nil, digest: nil)
  }

  fileprivate init(_ tensor: GGUFTensor) {
    self.init(
      name: tensor.name, shape: tensor.shape,
      role: TensorRole(ggufName: tensor.name)?.rawValue ?? "other",
      layer: TensorRole.layer(ofGGUFTensor: tensor.name), encoding: tensor.type.name,
      layout: tensor.type.isPlain ? "plain" : "blocks", sourceType: tensor.type.name, file: 0,
      offset: tensor.byteRange.lowerBound, storedByteCount: tensor.byteCount,
      logicalByteCount: tensor.byteCount, statistics: nil, columnScales: nil, digest: nil)
  }
}
