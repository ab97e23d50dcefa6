import CKernels

/// The inner loops of the quantizers, for one instruction set; all return the same bits.
///
/// Each call works on one panel of sixteen rows, whose float32 values lie column by column:
/// `values[16 * k + r]`. Callers own all memory and its sizes.
public struct QuantizationKernels: Sendable {
  private let functions: quantize_kernels

  /// The kernels for `instructionSet`, or the best below it that the machine has.
  public init(_ instructionSet: InstructionSet) {
    let id =
      switch instructionSet {
      case .scalar, .neon: QUANTIZE_SCALAR
      case .avx2, .avxvnni: QUANTIZE_AVX2
      case .avx512vnni: QUANTIZE_AVX512
      }
    functions = quantize_kernels_for(Int32(id)).pointee
  }

  /// A panel and what its errors are measured by. The target of quantization is
  /// x = value · inverseColumnScale · normalizer.
  public struct Panel {
    public var values: UnsafePointer<Float>
    /// `paddedColumns` factors and their reciprocals; nil for 1.
    public var columnScales: UnsafePointer<Float>?
    public var inverseColumnScales: UnsafePointer<Float>?
    /// Factors of the squared errors of the columns, 0 in padding.
    public var weights: UnsafePointer<Float>
    /// Sixteen powers of two that bring each row's largest magnitude near 1.
    public var normalizers: UnsafePointer<Float>
    public var columns: Int
    public var paddedColumns: Int
    public var blockSize: Int

    public init(
      values: UnsafePointer<Float>, columnScales: UnsafePointer<Float>?,
      inverseColumnScales: UnsafePointer<Float>?, weights: UnsafePointer<Float>,
      normalizers: UnsafePointer<Float>, columns: Int, paddedColumns: Int, blockSize: Int
    ) {
      self.values = values
      self.columnScales = columnScales
      self.inverseColumnScales = inverseColumnScales
      self.weights = weights
      self.normalizers = normalizers
      self.columns = columns
      self.paddedColumns = paddedColumns
      self.blockSize = blockSize
    }

    fileprivate var c: quantize_panel {
      quantize_panel(
        values: values, column_scales: columnScales, inverse_column_scales: inverseColumnScales,
        weights: weights, normalizers: normalizers, columns: Int32(columns),
        padded_columns: Int32(paddedColumns), block_size: Int32(blockSize))
    }
  }

  /// Where a panel's streams and error sums go.
  ///
  /// `sums` has seven rows of sixteen: for each row of the panel, with weights w and decoded values
  /// v, Σ(w − v)², Σw², Σwv, Σv², each added up in column order, max |w − v|, and with the importance i
  /// of the columns Σi(w − v)² and Σiw².
  public struct Output {
    public var codes: UnsafeMutablePointer<UInt8>
    public var blockScales: UnsafeMutablePointer<Int8>
    public var sums: UnsafeMutablePointer<Double>

    public init(
      codes: UnsafeMutablePointer<UInt8>, blockScales: UnsafeMutablePointer<Int8>,
      sums: UnsafeMutablePointer<Double>
    ) {
      self.codes = codes
      self.blockScales = blockScales
      self.sums = sums
    }

    fileprivate var c: quantize_output {
      quantize_output(codes: codes, block_scales: blockScales, sums: sums)
    }
  }

  /// Interleaves sixteen rows of `columns` floats into `values`, padded with zeros to
  /// `paddedColumns`; `largest` gets for each row the bits of the largest magnitude of
  /// value · inverseColumnScale: 0x7F800000 or more if one is not finite.
  public func load(
    rows: UnsafePointer<Float>, columns: Int, paddedColumns: Int,
    inverseColumnScales: UnsafePointer<Float>?, values: UnsafeMutablePointer<Float>,
    largest: UnsafeMutablePointer<UInt32>
  ) {
    functions.load(
      rows, Int64(columns), Int32(columns), Int32(paddedColumns), inverseColumnScales, values,
      largest)
  }

  /// For each block and row the signed scale in units of x that fits it best with `codebook`
  /// (sixteen ascending values), and for each row the largest magnitude of its scales.
  public func scalesQ4(
    _ panel: Panel, codebook: UnsafePointer<Float>, scales: UnsafeMutablePointer<Float>,
    largest: UnsafeMutablePointer<Float>
  ) {
    var panel = panel.c
    functions.q4_scales(&panel, codebook, scales, largest)
  }

  /// Adds to the sums whose quotients are the best entries for the codes that `codebook` and
  /// `scales` give, all blocks alike.
  public func fitQ4(
    _ panel: Panel, codebook: UnsafePointer<Float>, scales: UnsafePointer<Float>,
    numerators: UnsafeMutablePointer<Double>, denominators: UnsafeMutablePointer<Double>
  ) {
    var panel = panel.c
    functions.q4_fit(&panel, codebook, scales, numerators, denominators)
  }

  /// Codes and block scales of a 4-bit panel; `units` are row scales times normalizers.
  public func encodeQ4(
    _ panel: Panel, codebook: UnsafePointer<Float>, scales: UnsafePointer<Float>,
    units: UnsafePointer<Float>, rowScales: UnsafePointer<Float>, into output: Output
  ) {
    var panel = panel.c
    functions.q4_encode(&panel, codebook, scales, units, rowScales, output.c)
  }

  /// Codes and block scales of an 8-bit panel; `units` are row scales times normalizers.
  public func encodeQ8(
    _ panel: Panel, units: UnsafePointer<Float>, rowScales: UnsafePointer<Float>,
    into output: Output
  ) {
    var panel = panel.c
    functions.q8_encode(&panel, units, rowScales, output.c)
  }

  /// Rounds a panel to bf16 and packs it.
  public func encodeBF16(
    values: UnsafePointer<Float>, paddedColumns: Int, elements: UnsafeMutablePointer<UInt8>,
    sums: UnsafeMutablePointer<Double>
  ) {
    functions.bf16_encode(values, Int32(paddedColumns), elements, sums)
  }
}
