import TensorCore

/// One side of a comparison: a slab, a checkpoint directory or a safetensors file, opened and checked,
/// no weight read. The configuration need not be one that Quarry runs.
public struct ComparedModel: Sendable {
  public let path: String
  /// The slab; nil if the model is a checkpoint.
  public let slab: Slab?
  /// The mapped files of a checkpoint.
  public let weightFiles: [SafetensorsFile]
  /// The small files that belong to the model.
  public let assets: [SlabAsset]
  /// In the order of the file, or of the shards; column scales belong to the tensors that name them.
  let tensors: [ComparedTensor]

  /// - Throws: ``SlabError`` or ``CheckpointError`` if there is no model, or it is damaged.
  public init(path: String) throws {
    self.path = path
    if SystemCalls.isDirectory(path) {
      weightFiles = try CheckpointWeights(directory: path).files
      assets = try CheckpointAssets(directory: path).assets
      slab = nil
    } else {
      let opened = Result { () throws(SlabError) in try Slab(path: path) }
      if case .failure(let error) = opened, error.reason == .notASlab {
        guard let file = try? SafetensorsFile(path: path) else { throw error }
        (weightFiles, assets, slab) = ([file], [], nil)
      } else {
        let slab = try opened.get()
        (weightFiles, assets, self.slab) = ([], slab.assets, slab)
      }
    }
    if let slab {
      let scales = Set(slab.tensors.compactMap { $0.columnScales.map { Array($0.utf8) } })
      tensors = slab.tensorsInFileOrder.filter { !scales.contains(Array($0.name.utf8)) }
        .map { ComparedTensor($0, slab) }
    } else {
      tensors = weightFiles.flatMap { file in file.tensors.map { ComparedTensor($0, file) } }
    }
  }
}

/// A tensor of one side, and how to get at its values.
struct ComparedTensor: Sendable {
  enum Place: Sendable {
    case slab(SlabTensor, Slab)
    case file(TensorDescriptor, SafetensorsFile)
  }

  let name: String
  let form: ModelDifference.Form
  let place: Place

  init(_ tensor: SlabTensor, _ slab: Slab) {
    name = tensor.name
    form = ModelDifference.Form(
      shape: tensor.shape, encoding: tensor.encoding.name, byteCount: tensor.logicalByteCount)
    place = .slab(tensor, slab)
  }

  init(_ tensor: TensorDescriptor, _ file: SafetensorsFile) {
    name = tensor.name
    form = ModelDifference.Form(
      shape: tensor.shape, encoding: tensor.dataType.rawValue.lowercased(),
      byteCount: tensor.byteRange.count)
    place = .file(tensor, file)
  }

  /// The elements; nil for types that are no floating-point numbers.
  func values(pool: WorkerPool) throws(SlabError) -> TensorValues? {
    switch place {
    case .slab(let tensor, let slab): return try slab.checkedValues(of: tensor, pool: pool)
    case .file(let tensor, let file):
      guard let type = tensor.elementType else { return nil }
      let (rows, columns) = TensorValues.form(tensor.shape)
      return .rows(
        MatrixView(file.bytes(of: tensor), elementType: type, rows: rows, columns: columns))
    }
  }

  /// Gives back the memory that reading took.
  func release() {
    if case .file(let tensor, let file) = place { file.release(tensor) }
  }
}
