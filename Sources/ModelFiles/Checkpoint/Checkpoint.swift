public import TensorCore

/// A checkpoint directory in the published form: config.json, weights in one safetensors file or in
/// shards with an index, and the files of the tokenizer. Mapped and checked, not copied.
///
/// A value of this type holds every tensor that its configuration asks for, in the right shape and
/// an element type that is read. Whether the weights are finite shows when they are read.
public struct Checkpoint: Sendable {
  /// Files that travel with the weights, byte for byte, where they exist.
  public static let assetNames = [
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "chat_template.jinja",
  ]
  /// Bytes of an asset that are read.
  public static let maximumAssetByteCount = 64 << 20

  /// Path of the directory, as it was given.
  public let directory: String
  /// What config.json says.
  public let configuration: ModelConfiguration
  /// The tensors that the configuration asks for, sorted by name.
  public let tensors: [TensorDescriptor]
  /// The small files that a slab carries, as they are on the disk.
  public let assets: [SlabAsset]
  /// What is odd about the checkpoint without making it unusable, as sentences.
  public let warnings: [String]
  /// Paths of all files read: an output must be none of them.
  public let files: [String]
  /// The safetensors files.
  public let weightFiles: [SafetensorsFile]
  /// Names of the safetensors files, without their directory.
  public var weightFileNames: [String] { weightFiles.map(\.path.lastPathComponent) }
  /// Name of a tensor to its file and its descriptor.
  private let places: [String: (file: SafetensorsFile, tensor: TensorDescriptor)]

  /// - Throws: ``CheckpointError``, naming the file, the tensor, what was expected and found.
  public init(directory: String) throws(CheckpointError) {
    self.directory = directory
    var warnings: [String] = []
    let assets = try CheckpointAssets(directory: directory)
    let declared = try assets.configuration()
    try assets.checkGenerationConfiguration(declared)
    warnings += assets.warnings

    let weights = try CheckpointWeights(directory: directory)
    warnings += weights.warnings
    var places: [String: (file: SafetensorsFile, tensor: TensorDescriptor)] = [:]
    for file in weights.files {
      for tensor in file.tensors { places[tensor.name] = (file, tensor) }
    }
    configuration = declared.resolved { places[$0] != nil }
    var validation = CheckpointValidation(
      directory: directory, configuration: configuration, places: places)
    try validation.run()
    warnings += validation.warnings

    self.places = validation.places
    tensors = validation.places.values.map(\.tensor).sorted { $0.name < $1.name }
    self.assets = assets.assets
    self.warnings = warnings
    files = assets.files + weights.paths
    weightFiles = weights.files
  }

  /// The small files of a checkpoint directory, whether or not there are weights.
  /// - Throws: ``CheckpointError`` if there is no such directory or a file cannot be read.
  public static func assets(directory: String) throws(CheckpointError) -> [SlabAsset] {
    try CheckpointAssets(directory: directory).assets
  }

  /// The tensors that the safetensors files of a checkpoint directory hold, by name, whatever its
  /// configuration says, and the names of the files.
  /// - Throws: ``CheckpointError`` if there are no such files, or they are not acceptable.
  public static func storedTensors(
    directory: String
  ) throws(CheckpointError) -> (files: [String], tensors: [TensorDescriptor]) {
    let weights = try CheckpointWeights(directory: directory)
    let tensors = weights.files.flatMap(\.tensors).sorted { $0.name < $1.name }
    return (weights.files.map(\.path.lastPathComponent), tensors)
  }

  /// The tensor of that name, if the configuration asks for it.
  public func descriptor(named name: String) -> TensorDescriptor? { places[name]?.tensor }

  /// Path of the file that holds the tensor.
  /// - Precondition: `tensor` is one of ``tensors``, here and below.
  public func path(of tensor: TensorDescriptor) -> String { place(tensor.name).file.path }

  /// The elements of a tensor, in place.
  func bytes(of tensor: TensorDescriptor) -> UnsafeRawBufferPointer {
    place(tensor.name).file.bytes(of: tensor)
  }

  /// A tensor of two dimensions, in place.
  /// - Throws: ``CheckpointError`` if there is no such tensor or it is no matrix.
  public func matrix(named name: String) throws(CheckpointError) -> MatrixView {
    let matrices = try matrices(named: name)
    guard matrices.count == 1 else {
      throw shapeError(name, expected: "two dimensions")
    }
    return matrices[0]
  }

  /// A tensor of two dimensions, or, in order, the matrices of one of three; in place.
  /// - Throws: ``CheckpointError`` if there is no such tensor or it holds no matrices.
  public func matrices(named name: String) throws(CheckpointError) -> [MatrixView] {
    let rows = try rows(named: name)
    let shape = places[name]!.tensor.shape
    guard shape.count == 2 || shape.count == 3 else {
      throw shapeError(name, expected: "two or three dimensions")
    }
    return rows.split(into: shape.count == 3 ? shape[0] : 1)
  }

  /// All rows of a tensor, in place: the last dimension is the columns.
  /// - Throws: ``CheckpointError`` if there is no such tensor.
  public func rows(named name: String) throws(CheckpointError) -> MatrixView {
    guard let (file, tensor) = places[name], let type = tensor.elementType else {
      throw CheckpointError(.missingTensor, in: directory, tensor: name)
    }
    let (rows, columns) = TensorRows.form(tensor.shape)
    return MatrixView(file.bytes(of: tensor), elementType: type, rows: rows, columns: columns)
  }

  private func shapeError(_ name: String, expected: String) -> CheckpointError {
    let (file, tensor) = place(name)
    return CheckpointError(
      .shape, in: file.path, tensor: name, expected: expected, found: "\(tensor.shape)")
  }

  /// All elements of a tensor as float32, row-major; exact.
  /// - Throws: ``CheckpointError`` if there is no such tensor or a value is not finite.
  public func values(named name: String) throws(CheckpointError) -> [Float] {
    guard let (file, tensor) = places[name], let type = tensor.elementType else {
      throw CheckpointError(.missingTensor, in: directory, tensor: name)
    }
    let view = MatrixView(
      file.bytes(of: tensor), elementType: type, rows: 1, columns: tensor.elementCount)
    let values = [Float](unsafeUninitializedCapacity: tensor.elementCount) { buffer, count in
      if let base = buffer.baseAddress { view.copyRow(0, into: base) }
      count = tensor.elementCount
    }
    if let index = values.firstIndex(where: { !$0.isFinite }) {
      throw nonFinite(tensor, index: index)
    }
    return values
  }

  /// Gives back the memory that reading `tensor` took.
  public func release(_ tensor: TensorDescriptor) { place(tensor.name).file.release(tensor) }

  /// Asks the system to read `tensor` ahead.
  public func prefetch(_ tensor: TensorDescriptor) { place(tensor.name).file.prefetch(tensor) }

  /// The error that says that an element of `tensor` is NaN or infinite, or too large for what it
  /// is rounded to.
  /// - Parameter index: flat index of the element.
  public func nonFinite(_ tensor: TensorDescriptor, index: Int) -> CheckpointError {
    let (file, _) = place(tensor.name)
    let found =
      tensor.elementType.map { type in
        var value: Float = 0
        let size = type.byteCount
        MatrixView(
          UnsafeRawBufferPointer(
            rebasing: file.bytes(of: tensor)[index * size..<(index + 1) * size]),
          elementType: type, rows: 1, columns: 1
        ).copyRow(0, into: &value)
        return "\(value)"
      } ?? tensor.dataType.rawValue
    return CheckpointError(
      .nonFinite, in: file.path, tensor: tensor.name, expected: "finite weights",
      found: "\(found) at index \(index)")
  }

  private func place(_ name: String) -> (file: SafetensorsFile, tensor: TensorDescriptor) {
    guard let place = places[name] else { preconditionFailure("no tensor \(name)") }
    return place
  }
}
