extension Reference {
  /// The integer that a code of a quantized matrix stands for: a codebook entry or the code itself.
  static func value(_ weights: WeightMatrix, row: Int, column: Int) -> Int32 {
    let geometry = weights.geometry
    if weights.encoding.hasCodebook {
      let (offset, high) = geometry.nibble(row: row, column: column)
      let byte = weights.codes[offset]
      return Int32(weights.codebook[Int(high ? byte >> 4 : byte & 15)])
    }
    let offset = geometry.elementOffset(row: row, column: column, elementBytes: 1)
    return Int32(Int8(bitPattern: weights.codes[offset]))
  }

  /// s(b) = b · |b| of the block that holds `column`; exact for −128 too.
  static func blockScale(_ weights: WeightMatrix, row: Int, block: Int) -> Int32 {
    let scale = Int32(
      weights.blockScales[
        weights.geometry.blockScaleOffset(
          row: row, block: block, blockSize: weights.encoding.blockSize!)])
    return scale * abs(scale)
  }

  /// The weight at (row, column), padding included:
  /// `(float(s · value) · rowScale) · columnScale`, or the stored element.
  public static func dequantize(_ weights: WeightMatrix, row: Int, column: Int) -> Float {
    let geometry = weights.geometry
    switch weights.encoding {
    case .f32:
      let offset = geometry.elementOffset(row: row, column: column, elementBytes: 4)
      return weights.codes.load(fromByteOffset: offset, as: Float.self)
    case .bf16:
      let offset = geometry.elementOffset(row: row, column: column, elementBytes: 2)
      return Float(bfloat16Bits: weights.codes.load(fromByteOffset: offset, as: UInt16.self))
    case .q4b16, .q4b32, .q8b16, .q8b32:
      let scale = blockScale(weights, row: row, block: column / weights.encoding.blockSize!)
      let scaled =
        Float(scale * value(weights, row: row, column: column)) * weights.rowScales[row]
      return weights.columnScales.map { scaled * $0.pointer[column] } ?? scaled
    }
  }

  /// One output of a quantized matrix and int8 activations (one token's codes and scales).
  ///
  /// Inside a block the dot product is an exact integer; across blocks, in column order,
  /// `acc = fma(float(dot), float(s) · activationScale, acc)`, the first by a multiply; at the end
  /// `· rowScale`.
  public static func multiply(
    _ weights: WeightMatrix, row: Int, codes: UnsafePointer<Int8>, scales: UnsafePointer<Float>
  ) -> Float {
    let blockSize = weights.encoding.blockSize!
    var accumulator: Float = 0
    for block in 0..<weights.geometry.paddedColumns / blockSize {
      var dot: Int32 = 0
      for column in block * blockSize..<(block + 1) * blockSize {
        dot += value(weights, row: row, column: column) * Int32(codes[column])
      }
      let scale = Float(blockScale(weights, row: row, block: block)) * scales[block]
      accumulator =
        block == 0 ? Float(dot) * scale : accumulator.addingProduct(Float(dot), scale)
    }
    return accumulator * weights.rowScales[row]
  }

  /// One output of a matrix of any encoding and float32 activations (`paddedColumns` of them): one
  /// fma chain over the dequantized weights in column order, from 0.
  public static func multiply(
    _ weights: WeightMatrix, row: Int, activations: UnsafePointer<Float>
  ) -> Float {
    var accumulator: Float = 0
    for column in 0..<weights.geometry.paddedColumns {
      accumulator.addProduct(
        dequantize(weights, row: row, column: column), activations[column])
    }
    return accumulator
  }
}
