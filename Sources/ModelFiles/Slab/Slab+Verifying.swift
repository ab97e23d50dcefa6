public import TensorCore

extension Slab {
  /// Checks every byte of the file: what opening checks, every digest of every frame, and that
  /// padding inside streams is zero.
  ///
  /// - Parameters:
  ///   - pool: threads for digests and decompression.
  ///   - progress: called with the stored bytes checked so far and those of all tensors.
  /// - Throws: ``SlabError`` that names the first bad tensor in file order, its stream, frame and
  ///   range of bytes.
  public func verify(
    pool: WorkerPool, progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(SlabError) {
    _ = try SlabContents(of: file)
    let total = tensors.reduce(0) { $0 + $1.storedByteCount }
    var done = 0
    for tensor in tensorsInFileOrder {
      for stream in tensor.streams {
        let buffer = try file.decoded(stream, of: tensor, pool: pool)
        try checkPadding(buffer.bytes, stream, tensor)
        done += stream.storedByteCount
        progress(done, total)
      }
    }
  }

  private func checkPadding(
    _ bytes: UnsafeRawBufferPointer, _ stream: SlabStream, _ tensor: SlabTensor
  ) throws(SlabError) {
    guard let form = tensor.form,
      let offset = form.firstNonzeroPadding(bytes, stream.kind, tensor.encoding)
    else { return }
    // A digest that matches says that the writer put it there.
    let frame = offset / SlabFormat.frameByteCount
    throw SlabError(
      .malformed, path: path, name: tensor.name, stream: stream.kind, frame: frame,
      byteRange: stream.bytes.frameRanges[frame],
      expected: "0", found: "\(bytes[offset]) at byte \(offset) of the stream",
      "padding inside a stream is not zero")
  }
}

extension MatrixForm {
  /// The first byte of padding in a stream that is not zero; nil if there is none.
  func firstNonzeroPadding(
    _ bytes: UnsafeRawBufferPointer, _ kind: StreamKind, _ encoding: BlockEncoding
  ) -> Int? {
    for index in 0..<count {
      let range = range(ofMatrix: index, in: kind, encoding)
      let part = UnsafeRawBufferPointer(rebasing: bytes[range])
      if let offset = geometry.firstNonzeroPadding(part, kind, encoding) {
        return range.lowerBound + offset
      }
    }
    return nil
  }
}

extension PanelGeometry {
  /// The first byte (for 4-bit codes: with a nibble) of rows and columns beyond the shape that is
  /// not zero; nil if there is none.
  fileprivate func firstNonzeroPadding(
    _ bytes: UnsafeRawBufferPointer, _ kind: StreamKind, _ encoding: BlockEncoding
  ) -> Int? {
    var first: Int?
    func check(_ offset: Int, _ byte: UInt8) {
      if byte != 0 && offset < first ?? .max { first = offset }
    }
    switch kind {
    case .codebook: break
    case .rowScales:
      for offset in rows * 4..<paddedRows * 4 { check(offset, bytes[offset]) }
    case .blockScales:
      let blockSize = encoding.blockSize!
      let usedBlocks = (columns + blockSize - 1) / blockSize
      forEachPadding(usedColumns: usedBlocks, columnCount: paddedColumns / blockSize) {
        let offset = blockScaleOffset(row: $0, block: $1, blockSize: blockSize)
        check(offset, bytes[offset])
      }
    case .codes where encoding.hasCodebook:
      forEachPadding(usedColumns: columns, columnCount: paddedColumns) {
        let (offset, high) = nibble(row: $0, column: $1)
        check(offset, high ? bytes[offset] >> 4 : bytes[offset] & 15)
      }
    case .codes, .elements:
      let elementBytes = encoding.elementBits / 8
      forEachPadding(usedColumns: columns, columnCount: paddedColumns) {
        let offset = elementOffset(row: $0, column: $1, elementBytes: elementBytes)
        for byte in offset..<offset + elementBytes { check(byte, bytes[byte]) }
      }
    }
    return first
  }

  /// Calls `body` with row and column of everything that is padding.
  private func forEachPadding(
    usedColumns: Int, columnCount: Int, _ body: (_ row: Int, _ column: Int) -> Void
  ) {
    for row in 0..<paddedRows {
      for column in (row < rows ? usedColumns : 0)..<columnCount { body(row, column) }
    }
  }
}
