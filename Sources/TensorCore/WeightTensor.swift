/// A tensor in layout `panel16`, as slabs hold it: one matrix, or one for each expert.
///
/// The value is immutable and keeps the memory behind it alive.
public struct WeightTensor: @unchecked Sendable {  // immutable; the matrices keep the bytes alive
  public let encoding: BlockEncoding
  public let form: MatrixForm
  /// One, or those of the experts in order. They share ``columnScales``.
  public let matrices: [WeightMatrix]
  private let streams: [StreamKind: UnsafeRawBufferPointer]

  /// Factors of the input columns; nil means 1.
  public var columnScales: ColumnScales? { matrices[0].columnScales }

  /// - Parameters:
  ///   - streams: one buffer for each of `encoding.streams`, of exactly the size that `form` says,
  ///     aligned to 64 bytes.
  ///   - owners: what keeps the buffers alive.
  /// - Precondition: sizes and alignment are as said; readers of files check before.
  public init(
    encoding: BlockEncoding, form: MatrixForm, streams: [StreamKind: UnsafeRawBufferPointer],
    columnScales: ColumnScales? = nil, owners: [AnyObject]
  ) {
    for kind in encoding.streams {
      precondition(streams[kind]?.count == form.byteCount(of: kind, in: encoding))
    }
    self.encoding = encoding
    self.form = form
    self.streams = streams
    matrices = (0..<form.count).map { index in
      WeightMatrix(
        encoding: encoding, geometry: form.geometry,
        streams: Dictionary(
          uniqueKeysWithValues: encoding.streams.map { kind in
            let range = form.range(ofMatrix: index, in: kind, encoding)
            return (kind, UnsafeRawBufferPointer(rebasing: streams[kind]![range]))
          }),
        columnScales: columnScales, owners: owners)
    }
  }

  /// A tensor of one matrix.
  public init(_ matrix: WeightMatrix) {
    encoding = matrix.encoding
    form = MatrixForm(count: 1, geometry: matrix.geometry)!
    matrices = [matrix]
    streams = Dictionary(
      uniqueKeysWithValues: matrix.encoding.streams.map { ($0, matrix.stream($0)!) })
  }

  /// The bytes of one stream, those of one matrix after the other; nil if the encoding has no such
  /// stream.
  public func stream(_ kind: StreamKind) -> UnsafeRawBufferPointer? { streams[kind] }

  /// Writes the dequantized values of one row; rows are counted through all matrices.
  public func copyRow(_ row: Int, into destination: UnsafeMutablePointer<Float>) {
    let rows = form.geometry.rows
    matrices[row / rows].copyRow(row % rows, into: destination)
  }
}
