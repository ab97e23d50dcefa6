import CKernels

/// The inner loops, for one instruction set. All return the bits of ``Reference``.
///
/// None of them allocates or uses threads, but for ``multiply(_:pool:)``.
public struct Kernels: @unchecked Sendable {  // the table is constant
  public let instructionSet: InstructionSet
  /// Nil for the scalar reference.
  let table: UnsafePointer<ck_kernels>?
  /// Columns of the tiles in which activations are laid out; see `ck_activations`.
  let tileColumns: Int

  /// - Precondition: the instruction set is supported.
  public init(_ instructionSet: InstructionSet) {
    precondition(instructionSet.isSupported)
    self.init(instructionSet, table: instructionSet.table)
  }

  /// - Parameter table: nil for the scalar reference.
  init(_ instructionSet: InstructionSet, table: UnsafePointer<ck_kernels>?) {
    self.instructionSet = instructionSet
    self.table = table
    // The reference reads one token after another.
    tileColumns = table.map { Int($0.pointee.tile_columns) } ?? .max
  }

  /// Tokens of a batch that are interleaved; see `ck_activations`.
  func tokenGroup(for tokenCount: Int) -> Int {
    guard let table = table?.pointee else { return 1 }
    return Int(
      ck_token_group(Int64(tokenCount), Int64(table.stream_tokens), Int64(table.token_group)))
  }

  /// The best kernels for this machine, or those that `QUARRY_ISA` names.
  /// - Throws: ``InstructionSetError``.
  public static func selected() throws(InstructionSetError) -> Kernels {
    Kernels(try InstructionSet.selected())
  }

  /// See ``Reference/rmsNorm(_:weight:count:epsilon:output:)``.
  public func rmsNorm(
    _ input: UnsafePointer<Float>, weight: UnsafePointer<Float>, count: Int, epsilon: Float,
    output: UnsafeMutablePointer<Float>
  ) {
    if let table {
      table.pointee.rms_norm(input, weight, Int64(count), epsilon, output)
    } else {
      Reference.rmsNorm(input, weight: weight, count: count, epsilon: epsilon, output: output)
    }
  }

  /// See ``Reference/gatedSilu(gate:up:count:output:)``; `output` may be one of the inputs.
  public func gatedSilu(
    gate: UnsafePointer<Float>, up: UnsafePointer<Float>, count: Int,
    output: UnsafeMutablePointer<Float>
  ) {
    if let table {
      table.pointee.gated_silu(gate, up, Int64(count), output)
    } else {
      Reference.gatedSilu(gate: gate, up: up, count: count, output: output)
    }
  }

  /// See ``Reference/layerNorm(_:weight:bias:count:epsilon:output:)``.
  public func layerNorm(
    _ input: UnsafePointer<Float>, weight: UnsafePointer<Float>, bias: UnsafePointer<Float>,
    count: Int, epsilon: Float, output: UnsafeMutablePointer<Float>
  ) {
    if let table {
      table.pointee.layer_norm(input, weight, bias, Int64(count), epsilon, output)
    } else {
      Reference.layerNorm(
        input, weight: weight, bias: bias, count: count, epsilon: epsilon, output: output)
    }
  }

  /// See ``Reference/gelu(_:count:output:)``; `output` may be `input`.
  public func gelu(
    _ input: UnsafePointer<Float>, count: Int, output: UnsafeMutablePointer<Float>
  ) {
    if let table {
      table.pointee.gelu(input, Int64(count), output)
    } else {
      Reference.gelu(input, count: count, output: output)
    }
  }

  /// See ``Reference/mix(_:weights:count:output:)``.
  /// - Precondition: `count` is a multiple of 16; there is at least one row.
  public func mix(
    _ rows: UnsafeBufferPointer<UnsafePointer<Float>?>, weights: UnsafePointer<Float>, count: Int,
    output: UnsafeMutablePointer<Float>
  ) {
    if let table {
      table.pointee.mix(rows.baseAddress!, weights, Int64(rows.count), Int64(count), output)
    } else {
      Reference.mix(
        rows.map { $0! },
        weights: Array(UnsafeBufferPointer(start: weights, count: rows.count)), count: count,
        output: output)
    }
  }

  /// Quantizes one of `tokenCount` tokens into its places in a batch; false when a value is not
  /// finite.
  func quantize(
    _ input: UnsafePointer<Float>, for weights: WeightMatrix, token: Int, tokenCount: Int,
    codes: UnsafeMutablePointer<Int8>, scales: UnsafeMutablePointer<Float>,
    starts: UnsafeMutablePointer<Int32>
  ) -> Bool {
    let (geometry, groupSize) = (weights.geometry, weights.encoding.blockSize!)
    let padded = geometry.paddedColumns
    if let table {
      return table.pointee.quantize(
        input, weights.columnScales?.pointer, Int64(geometry.columns), Int64(padded),
        Int32(groupSize), Int64(token), Int64(tokenCount), codes, scales, starts)
    }
    return Reference.quantizeActivations(
      input, columnScales: weights.columnScales?.pointer, columns: geometry.columns,
      paddedColumns: padded, groupSize: groupSize, codes: codes + token * padded,
      scales: scales + token * (padded / groupSize))
  }
}

extension Kernels {
  /// One of several products that are computed together.
  public struct Product {
    fileprivate let weights: WeightMatrix
    fileprivate let activations: Activations
    fileprivate let rows: Range<Int>
    fileprivate let output: UnsafeMutablePointer<Float>
    fileprivate let outputStride: Int

    /// - Parameters:
    ///   - activations: loaded; they stay as they are until the product is computed.
    ///   - batch: which of the activations' batches it takes; nil where there is one.
    ///   - output: receives row n of token t at `t · outputStride + n`, for all `paddedRows` rows.
    /// - Precondition: `outputStride >= paddedRows`; `activations` were loaded for these weights, or
    ///   for a matrix of the same width, block size and column scales.
    public init(
      _ weights: WeightMatrix, _ activations: Activations, batch: Range<Int>? = nil,
      output: UnsafeMutablePointer<Float>, outputStride: Int
    ) {
      precondition(outputStride >= weights.geometry.paddedRows)
      self.weights = weights
      self.activations = activations
      rows = batch ?? 0..<activations.tokenCount
      self.output = output
      self.outputStride = outputStride
    }

    /// Where the results of the first token go.
    fileprivate var start: UnsafeMutablePointer<Float> { output + rows.lowerBound * outputStride }
  }

  /// Computes all `products` in one parallel loop: matrices that read one input, such as query, key
  /// and value, and those of experts, share the cost of waking the threads.
  ///
  /// - Precondition: their activations were loaded with these kernels.
  public func multiply(_ products: [Product], pool: WorkerPool) {
    let pieces = pieces(of: products, threadCount: pool.threadCount)
    guard let table else {
      pool.parallelFor(pieces.count) { index in
        Self.multiply(products[pieces[index].product], panels: pieces[index].panels)
      }
      return
    }
    // As C takes them: threads that count references to the same matrices wait for each other.
    let operands = products.map { product in
      (
        multiply:
          (product.activations.isQuantized
          ? table.pointee.multiply_int8 : table.pointee.multiply_f32)!,
        weights: ck_weights(product.weights), batch: product.activations.batch(product.rows),
        output: product.start, stride: Int64(product.outputStride)
      )
    }
    withExtendedLifetime(products) {
      operands.withUnsafeBufferPointer { operands in
        pieces.withUnsafeBufferPointer { pieces in
          pool.parallelFor(pieces.count) { index in
            let panels = pieces[index].panels
            var (multiply, weights, batch, output, stride) = operands[pieces[index].product]
            multiply(
              &weights, &batch, output, stride, Int64(panels.lowerBound), Int64(panels.upperBound))
          }
        }
      }
    }
  }

  /// Cuts products into pieces that become smaller towards the end, so that no thread waits long for the
  /// last one (guided self-scheduling; Polychronopoulos and Kuck, 1987): whole register tiles, none so
  /// small that handing it out costs more than it takes. With few tokens the first is a thread's whole
  /// share, because memory is read fastest in long stretches; with many they are no larger than the
  /// sixteen panels that share a pass over the activations (`TURN_PANELS`).
  private func pieces(
    of products: [Product], threadCount: Int
  ) -> [(product: Int, panels: Range<Int>)] {
    var pieces: [(product: Int, panels: Range<Int>)] = []
    var panelsLeft = products.reduce(0) { $0 + $1.weights.geometry.panelCount }
    for (index, product) in products.enumerated() {
      let weights = product.weights
      precondition(product.activations.serves(weights, kernels: self))
      let (geometry, tokenCount) = (weights.geometry, product.rows.count)
      let isStreamed = tokenGroup(for: tokenCount) == tokenCount
      let tile = isStreamed ? 1 : 2
      let panelWork = geometry.paddedColumns * (weights.encoding.elementBits + tokenCount)
      let smallest = max(tile, (1 << 15) / panelWork)
      var first = 0
      while first < geometry.panelCount {
        let share =
          isStreamed ? panelsLeft / threadCount : min(16, panelsLeft / (4 * threadCount))
        let end = min(first + max(smallest, share / tile * tile), geometry.panelCount)
        pieces.append((index, first..<end))
        panelsLeft -= end - first
        first = end
      }
    }
    return pieces
  }

  /// Panels of one product, by the scalar reference.
  private static func multiply(_ product: Product, panels: Range<Int>) {
    let (weights, activations) = (product.weights, product.activations)
    for token in product.rows {
      for row in panels.lowerBound * 16..<panels.upperBound * 16 {
        product.output[token * product.outputStride + row] =
          activations.isQuantized
          ? Reference.multiply(
            weights, row: row, codes: activations.codes(of: token),
            scales: activations.scales(of: token))
          : Reference.multiply(weights, row: row, activations: activations.values(of: token))
      }
    }
  }

  /// Products of `weights` with every token of `activations`:
  /// `output[t · outputStride + n]` for all `paddedRows` rows n.
  ///
  /// - Precondition: as for ``Product`` and ``multiply(_:pool:)``.
  public func multiply(
    _ weights: WeightMatrix, _ activations: Activations, output: UnsafeMutablePointer<Float>,
    outputStride: Int, pool: WorkerPool
  ) {
    multiply(
      [Product(weights, activations, output: output, outputStride: outputStride)], pool: pool)
  }
}

extension ck_weights {
  fileprivate init(_ weights: WeightMatrix) {
    self.init(
      codes: weights.codes.baseAddress, block_scales: weights.blockScales.baseAddress,
      row_scales: weights.rowScales.baseAddress, codebook: weights.codebook.baseAddress,
      column_scales: weights.columnScales?.pointer,
      padded_columns: Int64(weights.geometry.paddedColumns),
      block_size: Int32(weights.encoding.blockSize ?? 0),
      element_bits: Int32(weights.encoding.elementBits))
  }
}

/// Lets the workers of one parallel region write disjoint ranges.
public struct SharedPointer<Element>: @unchecked Sendable {  // disjointness is the region's duty
  public let pointer: UnsafeMutablePointer<Element>

  public init(_ pointer: UnsafeMutablePointer<Element>) { self.pointer = pointer }
}
