import JSON
public import TensorCore

/// The elements of a tensor as float32, row by row: the last dimension is the columns. Read where they
/// are mapped, as far as they are stored as they are.
public enum TensorRows: Sendable {
  case matrix(WeightMatrix)
  case view(MatrixView)
  case values([Float], columns: Int)

  public var rows: Int {
    switch self {
    case .matrix(let matrix): matrix.geometry.rows
    case .view(let view): view.rows
    case .values(let values, let columns): columns > 0 ? values.count / columns : 0
    }
  }

  public var columns: Int {
    switch self {
    case .matrix(let matrix): matrix.geometry.columns
    case .view(let view): view.columns
    case .values(_, let columns): columns
    }
  }

  /// Writes the elements of one row, dequantized with their column scales.
  public func copyRow(_ row: Int, into destination: UnsafeMutablePointer<Float>) {
    switch self {
    case .matrix(let matrix): matrix.copyRow(row, into: destination)
    case .view(let view): view.copyRow(row, into: destination)
    case .values(let values, let columns):
      for column in 0..<columns { destination[column] = values[row * columns + column] }
    }
  }
}

extension ModelListing {
  /// The elements of one of ``tensors``. The listing must outlive what is returned.
  ///
  /// A compressed matrix is decompressed into memory; everything else is read in place.
  /// - Throws: ``SlabError`` if what is read is damaged, ``FileError`` for a type that is not decoded.
  public func rows(of tensor: ListedTensor, pool: WorkerPool) throws -> TensorRows {
    let columns = tensor.shape.last ?? 1
    let rows = tensor.shape.dropLast().reduce(1, *)
    switch source {
    case .slab(let slab):
      return tensor.layout == "panel16"
        ? .matrix(try slab.matrix(named: tensor.name, pool: pool))
        : .values(try slab.values(named: tensor.name), columns: columns)
    case .safetensors(let files):
      let file = files[tensor.file]
      guard let type = ElementType(rawValue: tensor.sourceType),
        let stored = file.tensors.first(where: { $0.name.utf8.elementsEqual(tensor.name.utf8) })
      else { throw notDecoded(tensor) }
      return .view(
        MatrixView(file.bytes(of: stored), elementType: type, rows: rows, columns: columns))
    case .gguf(let file):
      guard let type = ElementType(rawValue: tensor.sourceType),
        let stored = file.tensors.first(where: { $0.name.utf8.elementsEqual(tensor.name.utf8) })
      else { throw notDecoded(tensor) }
      return .view(
        MatrixView(file.bytes(of: stored), elementType: type, rows: rows, columns: columns))
    }
  }

  private func notDecoded(_ tensor: ListedTensor) -> FileError {
    FileError(
      path: files[tensor.file].path,
      reason: "the values of \(tensor.name.shown) cannot be shown: \(tensor.sourceType) is not "
        + "decoded (F32, F16 and BF16 are)")
  }
}
