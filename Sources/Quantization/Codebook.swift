import TensorCore

/// The sixteen values that 4-bit codes of a tensor stand for, ascending, the largest magnitude 127.
struct Codebook {
  private(set) var entries: [Float]

  /// Where fitting begins: what it arrives at for independent normal weights.
  init(blockSize: Int) {
    entries =
      blockSize == 16
      ? [-127, -105, -83, -64, -48, -34, -21, -9, 3, 14, 26, 38, 52, 67, 84, 112]
      : [-127, -99, -78, -61, -46, -33, -21, -9, 2, 13, 25, 36, 50, 65, 82, 105]
  }

  /// Moves every entry to, and some way beyond, the mean of the weights that it stands for (Lloyd,
  /// 1982), and scales all to reach 127.
  ///
  /// Scales adapt to the codebook and it to them, so plain steps converge slowly; overstepping
  /// halves their number.
  mutating func refit(_ sums: CodebookSums) {
    for entry in 0..<16 where sums.denominators[entry] > 0 {
      let mean = Float(sums.numerators[entry] / sums.denominators[entry])
      entries[entry] += 1.6 * (mean - entries[entry])
    }
    entries.sort()
    let largest = max(entries[0].magnitude, entries[15].magnitude)
    if largest > 0 {
      for entry in 0..<16 { entries[entry] = entries[entry] * 127 / largest }
    }
  }

  mutating func round() {
    for entry in 0..<16 { entries[entry].round(.toNearestOrEven) }
  }

  /// Fits a codebook to panels of `source` that are spread evenly over its rows.
  ///
  /// Every block counts alike, whatever its scale: otherwise the few blocks with outliers, whose
  /// errors are large, would shape the codebook at the expense of all others.
  ///
  /// The sample is the same for any number of threads, and so is the order in which it is summed
  /// up. Panels with weights that are not finite are left out; encoding will refuse them.
  static func fit(
    _ source: MatrixView, _ geometry: PanelGeometry, _ encoding: BlockEncoding,
    factors: ColumnFactors, kernels: QuantizationKernels, pool: WorkerPool
  ) -> Codebook {
    let wanted = max(1, sampleSize / (16 * geometry.paddedColumns))
    let count = min(wanted, geometry.panelCount)
    var loaded = [Panel?](repeating: nil, count: count)
    loaded.withUnsafeMutableBufferPointer { buffer in
      let panels = SharedPointer(buffer.baseAddress!)
      pool.parallelFor(count) { index in
        var panel = Panel(geometry, encoding, factors: factors, kernels: kernels)
        if panel.load(index * geometry.panelCount / count, of: source) == nil {
          panels.pointer[index] = panel
        }
      }
    }
    let panels = loaded
    var codebook = Codebook(blockSize: encoding.blockSize!)
    var sums = [CodebookSums](repeating: CodebookSums(), count: count)
    for _ in 0..<stepCount {
      let current = codebook
      sums.withUnsafeMutableBufferPointer { buffer in
        let sums = SharedPointer(buffer.baseAddress!)
        pool.parallelFor(count) { index in
          sums.pointer[index] = CodebookSums()
          panels[index]?.fit(current, into: &sums.pointer[index])
        }
      }
      codebook.refit(sums.reduce(into: CodebookSums()) { $0.add($1) })
    }
    codebook.round()
    return codebook
  }

  /// Weights that a codebook is fitted to: sixteen means need no more.
  private static let sampleSize = 1 << 18
  private static let stepCount = 8
}

/// Weighted sums over the weights that each entry of a codebook stands for.
struct CodebookSums {
  var numerators = [Double](repeating: 0, count: 16)
  var denominators = [Double](repeating: 0, count: 16)

  mutating func add(_ other: CodebookSums) {
    for entry in 0..<16 {
      numerators[entry] += other.numerators[entry]
      denominators[entry] += other.denominators[entry]
    }
  }
}
