import TensorCore

/// Fills the streams of a tensor, matrix by matrix, panels in parallel.
struct EncodedStreams {
  let form: MatrixForm
  let encoding: BlockEncoding
  private let buffers: [StreamKind: AlignedBuffer]
  private let allSums: ErrorSums
  /// Once requested, panels may be left as they are.
  let cancellation: Cancellation
  /// Which of the matrices is being encoded.
  var matrix = 0

  init(_ form: MatrixForm, _ encoding: BlockEncoding, _ cancellation: Cancellation) {
    self.cancellation = cancellation
    self.form = form
    self.encoding = encoding
    buffers = Dictionary(
      uniqueKeysWithValues: encoding.streams.map {
        ($0, AlignedBuffer(byteCount: form.byteCount(of: $0, in: encoding)))
      })
    allSums = ErrorSums(panelCount: form.panelCount)
  }

  /// Of the matrix.
  var geometry: PanelGeometry { form.geometry }

  /// A panel's part of a stream; workers write different panels.
  func part<Element>(
    _ stream: StreamKind, ofPanel panel: Int, as type: Element.Type
  ) -> UnsafeMutablePointer<Element> {
    let range = form.range(ofMatrix: matrix, in: stream, encoding)
    return (buffers[stream]!.base + range.lowerBound + panel * (range.count / geometry.panelCount))
      .assumingMemoryBound(to: Element.self)
  }

  /// Where the sums of a panel go.
  func sums(ofPanel panel: Int) -> UnsafeMutablePointer<Double> {
    allSums.sums(ofPanel: matrix * geometry.panelCount + panel)
  }

  /// What encoding did to all matrices.
  func statistics(isWeighted: Bool = false) -> ErrorStatistics {
    allSums.statistics(isWeighted: isWeighted)
  }

  /// Calls `encodePanels` with runs of panels, which may share scratch memory, from all threads.
  ///
  /// - Parameter encodePanels: returns the first weight that it refuses.
  func fill(
    pool: WorkerPool, _ encodePanels: (Range<Int>) -> (row: Int, column: Int)?
  ) throws(QuantizationError) {
    var failures = [(row: Int, column: Int)?](repeating: nil, count: geometry.panelCount)
    failures.withUnsafeMutableBufferPointer { buffer in
      let failures = SharedPointer(buffer.baseAddress!)
      pool.parallelRanges(geometry.panelCount, minimum: 1) { panels in
        failures.pointer[panels.lowerBound] = encodePanels(panels)
      }
    }
    if cancellation.isRequested { throw .cancelled }
    if let place = failures.lazy.compactMap({ $0 }).first {
      throw .nonFinite(row: matrix * geometry.rows + place.row, column: place.column)
    }
  }

  func tensor(columnScales: ColumnScales?) -> WeightTensor {
    WeightTensor(
      encoding: encoding, form: form, streams: buffers.mapValues(\.bytes),
      columnScales: columnScales, owners: Array(buffers.values))
  }
}

/// The quantized encodings.
struct BlockEncoder {
  let source: MatrixView
  let factors: ColumnFactors
  let kernels: QuantizationKernels
  let streams: EncodedStreams

  func encode(fitsCodebook: Bool, pool: WorkerPool) throws(QuantizationError) {
    let (geometry, encoding) = (streams.geometry, streams.encoding)
    var codebook: Codebook?
    if encoding.hasCodebook {
      let fitted =
        fitsCodebook
        ? Codebook.fit(
          source, geometry, encoding, factors: factors, kernels: kernels, pool: pool)
        : Codebook(blockSize: encoding.blockSize!)
      let stored = streams.part(.codebook, ofPanel: 0, as: Int8.self)
      for entry in 0..<16 { stored[entry] = Int8(fitted.entries[entry]) }
      codebook = fitted
    }
    try streams.fill(pool: pool) { panels in
      var scratch = Panel(geometry, encoding, factors: factors, kernels: kernels)
      for panel in panels where !streams.cancellation.isRequested {
        if let place = scratch.load(panel, of: source) { return place }
        scratch.encode(
          codebook: codebook, rowScales: streams.part(.rowScales, ofPanel: panel, as: Float.self),
          into: QuantizationKernels.Output(
            codes: streams.part(.codes, ofPanel: panel, as: UInt8.self),
            blockScales: streams.part(.blockScales, ofPanel: panel, as: Int8.self),
            sums: streams.sums(ofPanel: panel)))
      }
      return nil
    }
  }
}

/// `bf16` and `f32`.
struct UnquantizedEncoder {
  let source: MatrixView
  let kernels: QuantizationKernels
  let streams: EncodedStreams

  func encode(pool: WorkerPool) throws(QuantizationError) {
    let geometry = streams.geometry
    let isLossless = streams.encoding == .f32
    // Larger magnitudes than 0x7F7F_7FFF round to a bf16 infinity.
    let limit: UInt32 = isLossless ? 0x7F80_0000 : 0x7F7F_8000
    try streams.fill(pool: pool) { panels in
      var loader = PanelLoader(geometry, limit: limit, kernels: kernels)
      let values = AlignedBuffer(byteCount: isLossless ? 0 : 16 * geometry.paddedColumns * 4)
      for panel in panels where !streams.cancellation.isRequested {
        // A line of layout panel16 in f32 is just a column of the panel.
        let floats =
          isLossless ? streams.part(.elements, ofPanel: panel, as: Float.self) : values.floats
        if let place = loader.load(panel, of: source, values: floats) { return place }
        if !isLossless {
          kernels.encodeBF16(
            values: floats, paddedColumns: geometry.paddedColumns,
            elements: streams.part(.elements, ofPanel: panel, as: UInt8.self),
            sums: streams.sums(ofPanel: panel))
        }
      }
      return nil
    }
  }
}
