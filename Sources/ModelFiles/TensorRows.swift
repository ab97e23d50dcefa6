public import TensorCore

/// The elements of a tensor as float32, row by row: the last dimension is the columns.
public enum TensorRows: Sendable {
  case weights(WeightTensor)
  /// - `owner`: what keeps the memory of the view alive, where that is not the caller.
  case view(MatrixView, owner: AlignedBuffer? = nil)

  public var rows: Int {
    switch self {
    case .weights(let weights): weights.form.rows
    case .view(let view, _): view.rows
    }
  }

  public var columns: Int {
    switch self {
    case .weights(let weights): weights.form.geometry.columns
    case .view(let view, _): view.columns
    }
  }

  /// Writes the elements of one row, dequantized with their column scales.
  public func copyRow(_ row: Int, into destination: UnsafeMutablePointer<Float>) {
    switch self {
    case .weights(let weights): weights.copyRow(row, into: destination)
    case .view(let view, _): view.copyRow(row, into: destination)
    }
  }

  /// Rows and columns of a tensor of any number of dimensions.
  static func form(_ shape: [Int]) -> (rows: Int, columns: Int) {
    (shape.dropLast().reduce(1, *), shape.last ?? 1)
  }
}

extension Slab {
  /// The elements of a tensor in memory of their own, every digest checked: nothing is used where it
  /// is mapped.
  /// - Throws: ``SlabError`` if the tensor is damaged, or larger than this machine's memory.
  package func checkedRows(
    of tensor: SlabTensor, pool: WorkerPool
  ) throws(SlabError) -> TensorRows {
    var buffers: [StreamKind: AlignedBuffer] = [:]
    for stream in tensor.streams {
      buffers[stream.kind] = try file.decoded(stream, of: tensor, pool: pool)
    }
    guard let form = tensor.form else {
      let elements = buffers[.elements]!
      let (rows, columns) = TensorRows.form(tensor.shape)
      return .view(
        MatrixView(elements.bytes, elementType: .f32, rows: rows, columns: columns),
        owner: elements)
    }
    let scales = try tensor.columnScales.map { name throws(SlabError) in
      try sharedColumnScales(named: name)
    }
    return .weights(
      WeightTensor(
        encoding: tensor.encoding, form: form, streams: buffers.mapValues(\.bytes),
        columnScales: scales, owners: Array(buffers.values)))
  }
}
