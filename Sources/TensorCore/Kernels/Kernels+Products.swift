import CKernels

extension Kernels {
  /// A matrix, or some of its panels, times a batch of tokens, as kernels take it. It keeps nothing
  /// alive: matrix and activations outlive it.
  public struct Product {
    /// Of matrices to choose from, the first.
    fileprivate let weights: ck_weights
    /// The matrices to choose from, and the place of the one that is chosen.
    fileprivate let choice: (matrices: UnsafePointer<ck_weights>, place: UnsafePointer<Int>)?
    fileprivate let activations: ck_activations
    fileprivate let isQuantized: Bool
    /// Of the kernels that the activations were loaded with.
    fileprivate let table: UnsafePointer<ck_kernels>?
    fileprivate let firstPanel: Int
    fileprivate let panelCount: Int
    fileprivate let output: UnsafeMutablePointer<Float>
    fileprivate let outputStride: Int
    /// In the place of kernels, of the scalar reference.
    fileprivate let reference: ReferenceProduct?

    /// - Parameters:
    ///   - activations: begun; they are loaded when the product is computed.
    ///   - batch: which of the activations' batches it takes; nil where there is one.
    ///   - panels: which of the matrix's; nil for all.
    ///   - output: receives row n of token t at `t · outputStride + n`, for all rows of the panels.
    /// - Precondition: `outputStride >= paddedRows`; `activations` were begun for these weights, or
    ///   for a matrix of the same width, block size and column scales.
    public init(
      _ weights: WeightMatrix, _ activations: Activations, batch: Range<Int>? = nil,
      panels: Range<Int>? = nil, output: UnsafeMutablePointer<Float>, outputStride: Int
    ) {
      self.init(
        ck_weights(weights), choice: nil, weights.geometry, activations, batch: batch,
        panels: panels, output: output, outputStride: outputStride, matrix: { weights })
    }

    /// The product with one of several matrices; parameters as for a matrix alone.
    public init(
      _ matrices: MatrixList, at place: Int, _ activations: Activations, batch: Range<Int>? = nil,
      panels: Range<Int>? = nil, output: UnsafeMutablePointer<Float>, outputStride: Int
    ) {
      precondition(place < matrices.count)
      self.init(
        matrices.forms[place], choice: nil, matrices.geometry, activations, batch: batch,
        panels: panels, output: output, outputStride: outputStride, matrix: { matrices[place] })
    }

    /// The product with one of several matrices, whose place is known when the product is computed.
    public init(
      _ matrices: MatrixList, chosen place: UnsafePointer<Int>, _ activations: Activations,
      batch: Range<Int>? = nil, panels: Range<Int>? = nil, output: UnsafeMutablePointer<Float>,
      outputStride: Int
    ) {
      self.init(
        matrices.forms[0], choice: (matrices.forms, place), matrices.geometry, activations,
        batch: batch, panels: panels, output: output, outputStride: outputStride,
        matrix: { matrices[place.pointee] })
    }

    private init(
      _ weights: ck_weights,
      choice: (matrices: UnsafePointer<ck_weights>, place: UnsafePointer<Int>)?,
      _ geometry: PanelGeometry, _ activations: Activations, batch: Range<Int>?,
      panels: Range<Int>?, output: UnsafeMutablePointer<Float>, outputStride: Int,
      matrix: @escaping () -> WeightMatrix
    ) {
      let panels = panels ?? 0..<geometry.panelCount
      precondition(outputStride >= geometry.paddedRows)
      precondition(0 <= panels.lowerBound && panels.upperBound <= geometry.panelCount)
      precondition(activations.serves(weights))
      let batch = batch ?? 0..<activations.tokenCount
      self.weights = weights
      self.choice = choice
      self.activations = activations.batch(batch)
      isQuantized = activations.isQuantized
      table = activations.table
      (firstPanel, panelCount) = (panels.lowerBound, panels.count)
      self.output = output + batch.lowerBound * outputStride
      self.outputStride = outputStride
      reference = table == nil ? ReferenceProduct(matrix) : nil
    }

    /// Roughly how long a panel takes.
    fileprivate var panelWork: Int {
      Int(weights.padded_columns) * (Int(weights.element_bits) + Int(activations.tokens))
    }

    private var chosen: ck_weights { choice.map { $0.matrices[$0.place.pointee] } ?? weights }

    /// Asks for the beginning of some panels, so much as is read in a few microseconds.
    fileprivate func prefetch(panels: Range<Int>) {
      let size = Int(weights.padded_columns) * 2 * Int(weights.element_bits)
      ck_prefetch(
        chosen.codes + (firstPanel + panels.lowerBound) * size,
        Int64(min(panels.count * size, Kernels.prefetchedBytes)))
    }

    /// Computes some panels, counted from its first.
    fileprivate func compute(panels: Range<Int>) {
      let (first, last) = (firstPanel + panels.lowerBound, firstPanel + panels.upperBound)
      guard let table else {
        reference!.multiply(
          activations, isQuantized: isQuantized, rows: first * 16..<last * 16, output: output,
          stride: outputStride)
        return
      }
      let multiply = isQuantized ? table.pointee.multiply_int8 : table.pointee.multiply_f32
      withUnsafePointer(to: chosen) { weights in
        withUnsafePointer(to: activations) { activations in
          multiply!(weights, activations, output, Int64(outputStride), Int64(first), Int64(last))
        }
      }
    }
  }

  /// Products with as many panels each, of which one thread computes the same ones of all. It goes on
  /// with what has to be made of them: they are in its cache, and other threads would wait for them.
  public struct ProductGroup {
    fileprivate let first: Product
    fileprivate let others: [Product]
    fileprivate let panelMultiple: Int
    fileprivate let finish: ((_ rows: Range<Int>, _ group: Int) -> Void)?

    /// - Parameters:
    ///   - others: with as many panels as the first.
    ///   - rowMultiple: of which ranges of rows are multiples, but for the last.
    ///   - finish: called with ranges of rows, counted from each product's first, once they are
    ///     computed, by several threads at a time, and with the group's place among those that are
    ///     computed together. Every row is in one of them, up to whole panels.
    public init(
      _ first: Product, _ others: [Product] = [], rowMultiple: Int = 16,
      finish: ((_ rows: Range<Int>, _ group: Int) -> Void)? = nil
    ) {
      precondition(others.allSatisfy { $0.panelCount == first.panelCount })
      self.first = first
      self.others = others
      panelMultiple = (rowMultiple + 15) / 16
      self.finish = finish
    }

    fileprivate var panelCount: Int { first.panelCount }
    fileprivate var productCount: Int { 1 + others.count }

    /// Whether something holds for all products.
    fileprivate func allSatisfy(_ predicate: (Product) -> Bool) -> Bool {
      predicate(first) && others.allSatisfy(predicate)
    }
  }

  /// Whether the weights of a product with so many tokens go from memory through registers: each is
  /// read once, and by no other thread.
  public func streamsWeights(tokenCount: Int) -> Bool { tokenGroup(for: tokenCount) == tokenCount }

  /// Computes all products in one parallel loop: matrices that read one input, such as query, key
  /// and value, and those of experts, share the cost of waking the threads.
  ///
  /// - Precondition: their activations were loaded with these kernels.
  public func multiply(_ groups: [ProductGroup], pool: WorkerPool) {
    pool.run([stage(groups, threadCount: pool.threadCount)])
  }

  /// The same as a stage of a loop of `threadCount` threads, before which their activations are loaded.
  public func stage(_ groups: [ProductGroup], threadCount: Int) -> LoopStage {
    let pieces = pieces(of: groups, threadCount: threadCount)
    return LoopStage(
      count: pieces.count,
      whileWaiting: { index in
        let (place, panels) = pieces[index]
        groups.withUnsafeBufferPointer { $0.baseAddress![place].first.prefetch(panels: panels) }
      },
      { index in
        let (place, panels) = pieces[index]
        groups.withUnsafeBufferPointer { groups in
          let group = groups.baseAddress! + place
          group.pointee.first.compute(panels: panels)
          for product in group.pointee.others { product.compute(panels: panels) }
          group.pointee.finish?(panels.lowerBound * 16..<panels.upperBound * 16, place)
        }
      })
  }

  /// What a thread asks for while it waits for others: a part of its second-level cache.
  private static let prefetchedBytes = 1 << 17

  /// Some panels of a group.
  private typealias Piece = (group: Int, panels: Range<Int>)

  /// Cuts products into pieces that become smaller towards the end, so that no thread waits long for the
  /// last one (guided self-scheduling; Polychronopoulos and Kuck, 1987): whole register tiles, none so
  /// small that handing it out costs more than it takes. With few tokens the first is a thread's whole
  /// share, because memory is read fastest in long stretches; with many they are no larger than the
  /// sixteen panels that share a pass over the activations (`TURN_PANELS`).
  private func pieces(of groups: [ProductGroup], threadCount: Int) -> [Piece] {
    var pieces: [Piece] = []
    pieces.reserveCapacity(groups.count + 8 * threadCount)
    var panelsLeft = groups.reduce(0) { $0 + $1.panelCount * $1.productCount }
    for (index, group) in groups.enumerated() {
      precondition(group.allSatisfy { $0.table == table })
      let isStreamed = group.allSatisfy { streamsWeights(tokenCount: Int($0.activations.tokens)) }
      let multiple = max(isStreamed ? 1 : 2, group.panelMultiple)
      let work = group.others.reduce(group.first.panelWork) { $0 + $1.panelWork }
      let smallest = (1 << 15) / work
      var first = 0
      while first < group.panelCount {
        let share = panelsLeft / (group.productCount * threadCount)
        let count = max(smallest, isStreamed ? share : min(16, share / 4))
        let end = min(first + max(1, count / multiple) * multiple, group.panelCount)
        pieces.append((index, first..<end))
        panelsLeft -= (end - first) * group.productCount
        first = end
      }
    }
    return pieces
  }

  /// Products of `weights` with every token of `activations`:
  /// `output[t · outputStride + n]` for all `paddedRows` rows n.
  ///
  /// - Precondition: as for ``Product`` and ``multiply(_:pool:)``.
  public func multiply(
    _ weights: WeightMatrix, _ activations: Activations, output: UnsafeMutablePointer<Float>,
    outputStride: Int, pool: WorkerPool
  ) {
    let product = Product(weights, activations, output: output, outputStride: outputStride)
    withExtendedLifetime((weights, activations)) { multiply([ProductGroup(product)], pool: pool) }
  }
}

/// A product as the scalar reference computes it; a class, so that products stay small.
private final class ReferenceProduct {
  let matrix: () -> WeightMatrix

  init(_ matrix: @escaping () -> WeightMatrix) { self.matrix = matrix }

  /// - Parameter output: of the batch's first token.
  func multiply(
    _ activations: ck_activations, isQuantized: Bool, rows: Range<Int>,
    output: UnsafeMutablePointer<Float>, stride: Int
  ) {
    let weights = matrix()
    let columns = weights.geometry.paddedColumns
    // Tokens are not interleaved.
    for token in 0..<Int(activations.tokens) {
      for row in rows {
        output[token * stride + row] =
          isQuantized
          ? Reference.multiply(
            weights, row: row, codes: activations.codes + token * columns,
            scales: activations.scales + token * columns / weights.encoding.blockSize!)
          : Reference.multiply(
            weights, row: row, activations: activations.values + token * columns)
      }
    }
  }
}
