import JSON
public import TensorCore

extension ModelListing {
  /// The files as they are mapped, in the order of ``files``.
  public var mappings: [(path: String, bytes: UnsafeRawBufferPointer)] {
    switch source {
    case .slab(let slab): [(slab.path, slab.mappedBytes)]
    case .safetensors(let files): files.map { ($0.path, $0.mappedBytes) }
    case .gguf(let file): [(file.path, file.mappedBytes)]
    }
  }

  /// The elements of one of ``tensors``. The listing must outlive what is returned.
  ///
  /// Matrices that are stored as they are, and all tensors of other files than slabs, are read in place.
  /// - Throws: ``SlabError`` if what is read is damaged, ``FileError`` for a type that is not decoded.
  public func rows(of tensor: ListedTensor, pool: WorkerPool) throws -> TensorRows {
    if let slab, tensor.layout == "panel16" {
      return .weights(try slab.weights(named: tensor.name, pool: pool))
    }
    if let rows = try checkedRows(of: tensor, pool: pool) { return rows }
    throw FileError(
      path: files[tensor.file].path,
      reason: "the values of \(tensor.name.shown) cannot be shown: \(tensor.sourceType) is not "
        + "decoded (F32, F16 and BF16 are)")
  }

  /// The elements of one of ``tensors``, those of a slab in memory of their own, every digest checked;
  /// nil for a type that is not decoded.
  func checkedRows(of tensor: ListedTensor, pool: WorkerPool) throws(SlabError) -> TensorRows? {
    if let slab { return try slab.checkedRows(of: slab.tensor(named: tensor.name)!, pool: pool) }
    guard let type = ElementType(rawValue: tensor.sourceType) else { return nil }
    let (rows, columns) = TensorRows.form(tensor.shape)
    return .view(
      MatrixView(storedBytes(of: tensor), elementType: type, rows: rows, columns: columns))
  }

  /// The bytes of one of ``tensors`` where they are mapped.
  func storedBytes(of tensor: ListedTensor) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: mappings[tensor.file].bytes[tensor.byteRange])
  }

  /// Gives back the memory that reading a tensor of a checkpoint took.
  func release(_ tensor: ListedTensor) {
    if case .safetensors(let files) = source { files[tensor.file].release(tensor.byteRange) }
  }
}

extension ListedTensor {
  fileprivate var byteRange: Range<Int> { offset..<offset + storedByteCount }
}
