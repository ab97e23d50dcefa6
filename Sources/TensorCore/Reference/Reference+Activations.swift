extension Reference {
  /// Quantizes one token's activations to int8 in groups of `groupSize` columns.
  ///
  /// With y = x · columnScale and amax the largest |y| of a group: code = clamp(round to even(y ·
  /// (127 / amax)), ±127), scale = amax / 127. A group with amax below 2⁻¹⁰⁰ has scale 0 and codes 0.
  /// Columns past `columns` count as zeros.
  ///
  /// - Parameters:
  ///   - input: `columns` values.
  ///   - columnScales: `columns` factors, or nil for 1.
  ///   - codes: receives `paddedColumns` codes.
  ///   - scales: receives `paddedColumns / groupSize` scales.
  /// - Returns: false when a product is not finite; the outputs are then undefined.
  public static func quantizeActivations(
    _ input: UnsafePointer<Float>, columnScales: UnsafePointer<Float>?, columns: Int,
    paddedColumns: Int, groupSize: Int, codes: UnsafeMutablePointer<Int8>,
    scales: UnsafeMutablePointer<Float>
  ) -> Bool {
    var group = [Float](repeating: 0, count: groupSize)
    for index in 0..<paddedColumns / groupSize {
      var amax: Float = 0
      for place in 0..<groupSize {
        let column = index * groupSize + place
        group[place] = column < columns ? input[column] * (columnScales?[column] ?? 1) : 0
        guard group[place].isFinite else { return false }
        amax = max(amax, group[place].magnitude)
      }
      let vanishes = amax < 0x1p-100
      let inverse = vanishes ? 0 : 127 / amax
      for place in 0..<groupSize {
        let code = (group[place] * inverse).rounded(.toNearestOrEven)
        codes[index * groupSize + place] = Int8(min(max(code, -127), 127))
      }
      scales[index] = vanishes ? 0 : amax / 127
    }
    return true
  }
}
