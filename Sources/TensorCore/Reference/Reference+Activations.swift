extension Reference {
  /// Quantizes one token's activations to int8 in groups of `groupSize` columns.
  ///
  /// With y = x · columnScale and amax the largest |y| of a group: code = clamp(round to even(y ·
  /// (127 / amax)), ±127), scale = amax / 127. A group with amax below 2⁻¹⁰⁰ has scale 0 and codes 0.
  ///
  /// - Parameters:
  ///   - input: `geometry columns` values, followed by zeros up to `paddedColumns`.
  ///   - columnScales: `paddedColumns` factors, or nil for 1.
  ///   - codes: receives `paddedColumns` codes.
  ///   - scales: receives `paddedColumns / groupSize` scales.
  ///   - sums: receives as many sums of codes; kernels that bias weights need them.
  /// - Returns: false when a product is not finite; the outputs are then undefined.
  public static func quantizeActivations(
    _ input: UnsafePointer<Float>, columnScales: UnsafePointer<Float>?, paddedColumns: Int,
    groupSize: Int, codes: UnsafeMutablePointer<Int8>, scales: UnsafeMutablePointer<Float>,
    sums: UnsafeMutablePointer<Int32>
  ) -> Bool {
    for group in 0..<paddedColumns / groupSize {
      let columns = group * groupSize..<(group + 1) * groupSize
      var amax: Float = 0
      for column in columns {
        let value = columnScales.map { input[column] * $0[column] } ?? input[column]
        guard value.isFinite else { return false }
        amax = max(amax, value.magnitude)
      }
      let vanishes = amax < 0x1p-100
      let inverse = vanishes ? 0 : 127 / amax
      var sum: Int32 = 0
      for column in columns {
        let value = columnScales.map { input[column] * $0[column] } ?? input[column]
        let code = min(max((value * inverse).rounded(.toNearestOrEven), -127), 127)
        codes[column] = Int8(code)
        sum += Int32(code)
      }
      scales[group] = vanishes ? 0 : amax / 127
      sums[group] = sum
    }
    return true
  }
}
