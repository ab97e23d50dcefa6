import TensorCore

@testable import Quantization

/// The quantizers once more, one row and one weight at a time: what the kernels of every
/// instruction set must agree with, bit by bit.
enum ReferenceQuantizer {
  struct Row {
    var scale: Float
    var blockScales: [Int8]
    var codes: [Int]
  }

  static let q4Starts: [Float] = [0.9, 0.96, 1.02, 1.09, 1.16, 1.24, 1.32, 1.41, 1.5]
  static let negligible: Float = 0x1p-60

  /// Index of the entry nearest to `value`.
  static func index(_ codebook: [Float], _ value: Float) -> Int {
    (0..<15).count { value > 0.5 * (codebook[$0] + codebook[$0 + 1]) }
  }

  /// With q the entries nearest to `x · inverse`: Σ weight x q and Σ weight q².
  static func sums(
    _ x: ArraySlice<Float>, _ weights: [Float], _ codebook: [Float], inverse: Float
  ) -> (xq: Float, qq: Float) {
    var xq: Float = 0
    var qq: Float = 0
    for column in x.indices {
      let q = codebook[index(codebook, x[column] * inverse)]
      xq += x[column] * (q * weights[column])
      qq += q * (q * weights[column])
    }
    return (xq, qq)
  }

  /// The scale of one block of normalized weights before it is put on a grid.
  static func scaleQ4(_ x: ArraySlice<Float>, _ weights: [Float], _ codebook: [Float]) -> Float {
    let magnitude = x.reduce(0) { max($0, $1.magnitude) }
    if magnitude <= negligible { return 0 }
    var best: Float = 0
    var scale: Float = 0
    for sign: Float in [1, -1] {
      for start in q4Starts {
        let (xq, qq) = sums(
          x, weights, codebook, inverse: 1 / magnitude * (sign * 127 / start))
        let refit = xq / qq
        if xq * refit > best && refit * sign > 0 {
          best = xq * refit
          scale = refit
        }
      }
    }
    return scale
  }

  /// One row in a 4-bit encoding. `x`: padded weights over their column scales, times `normalizer`.
  static func rowQ4(
    _ x: [Float], normalizer: Float, columns: Int, weights: [Float], codebook: [Float],
    blockSize: Int, largestColumnScale: Float
  ) -> Row {
    let starts = stride(from: 0, to: x.count, by: blockSize)
    let scales = starts.map { scaleQ4(x[$0..<$0 + blockSize], weights, codebook) }
    let largest = scales.reduce(0) { max($0, $1.magnitude) }
    let rowScale = rowScale(
      largest: largest, normalizer: normalizer, largestColumnScale: largestColumnScale)
    let unit = Float(Double(rowScale) * Double(normalizer))
    var row = Row(
      scale: rowScale, blockScales: scales.map { _ in 0 }, codes: x.map { _ in 0 })
    for (block, start) in starts.enumerated() where scales[block] != 0 {
      let x = x[start..<start + blockSize]
      let sign: Float = scales[block] < 0 ? -1 : 1
      let center = min(scales[block].magnitude / unit, 16129).squareRoot()
        .rounded(.toNearestOrEven)
      var best: Float = 0
      for step: Float in [-1, 0, 1] {
        let candidate = min(max(center + step, 1), 127)
        let s = unit * (candidate * candidate) * sign
        let (xq, qq) = sums(x, weights, codebook, inverse: 1 / s)
        let change = s * (s * qq - 2 * xq)
        if change < best {
          best = change
          row.blockScales[block] = Int8(candidate * sign)
        }
      }
      let b = Float(row.blockScales[block])
      if b == 0 { continue }
      for column in x.indices where column < columns {
        row.codes[column] = index(codebook, x[column] * (1 / (unit * (b * b.magnitude))))
      }
    }
    return row
  }

  /// One row in an 8-bit encoding.
  static func rowQ8(
    _ x: [Float], normalizer: Float, columns: Int, weights: [Float], blockSize: Int,
    largestColumnScale: Float
  ) -> Row {
    let largest = x.reduce(0) { max($0, $1.magnitude) }
    let rowScale = rowScale(
      largest: largest / 127, normalizer: normalizer, largestColumnScale: largestColumnScale)
    let unit = Float(Double(rowScale) * Double(normalizer))
    var row = Row(
      scale: rowScale, blockScales: Array(repeating: 0, count: x.count / blockSize),
      codes: x.map { _ in 0 })
    for (block, start) in stride(from: 0, to: x.count, by: blockSize).enumerated() {
      let x = x[start..<start + blockSize]
      let magnitude = x.reduce(0) { max($0, $1.magnitude) }
      if magnitude <= negligible || unit == 0 { continue }
      let reach = min(magnitude / (unit * 127), 16129).squareRoot()
      let center = (reach + 0.499).rounded(.toNearestOrEven)
      var best: Float = 0
      for column in x.indices { best += x[column] * x[column] * weights[column] }
      for step in -1...8 {
        let candidate = min(max(center + Float(step), 1), 127)
        let s = unit * (candidate * candidate)
        var error: Float = 0
        for column in x.indices {
          let v = x[column] * (1 / s)
          let difference = v - code(v)
          error += difference * difference * weights[column]
        }
        error *= s * s
        if error < best {
          best = error
          row.blockScales[block] = Int8(candidate)
        }
      }
      let b = Float(row.blockScales[block])
      if b == 0 { continue }
      for column in x.indices where column < columns {
        row.codes[column] = Int(code(x[column] * (1 / (unit * (b * b)))))
      }
    }
    return row
  }

  static func code(_ v: Float) -> Float { max(min(v, 127), -127).rounded(.toNearestOrEven) }

  static func rowScale(largest: Float, normalizer: Float, largestColumnScale: Float) -> Float {
    if largest == 0 { return 0 }
    let ideal = Float(Double(largest) / Double(normalizer) / 16129)
    let limit = Float.greatestFiniteMagnitude / 2_097_152 / largestColumnScale
    return min(max(ideal, 0x1p-149), limit)
  }

  /// The codebook that is fitted to a matrix that is small enough to be its own sample.
  static func codebook(
    _ matrix: Matrix, like encoded: WeightMatrix, importance: [Float]?
  ) throws -> [Float] {
    let blockSize = encoded.encoding.blockSize!
    let weights = try weights(encoded, importance: importance)
    let rows = try (0..<matrix.rows).map { try normalized($0, of: matrix, like: encoded) }
    var codebook = Codebook(blockSize: blockSize).entries
    for _ in 0..<8 {
      var numerators = [Double](repeating: 0, count: 16)
      var denominators = [Double](repeating: 0, count: 16)
      for panel in stride(from: 0, to: rows.count, by: 16) {
        var panelNumerators = [Double](repeating: 0, count: 16)
        var panelDenominators = [Double](repeating: 0, count: 16)
        for start in stride(from: 0, to: encoded.geometry.paddedColumns, by: blockSize) {
          let members = rows[panel..<min(panel + 16, rows.count)]
          let scales = members.map { scaleQ4($0.x[start..<start + blockSize], weights, codebook) }
          for column in start..<start + blockSize {
            for (row, scale) in zip(members, scales) where scale != 0 {
              let relative = row.x[column] * (1 / scale)
              let entry = index(codebook, relative)
              panelNumerators[entry] += Double(weights[column]) * Double(relative)
              panelDenominators[entry] += Double(weights[column])
            }
          }
        }
        for entry in 0..<16 {
          numerators[entry] += panelNumerators[entry]
          denominators[entry] += panelDenominators[entry]
        }
      }
      for entry in 0..<16 where denominators[entry] > 0 {
        let mean = Float(numerators[entry] / denominators[entry])
        codebook[entry] += 1.6 * (mean - codebook[entry])
      }
      codebook.sort()
      let largest = max(codebook[0].magnitude, codebook[15].magnitude)
      codebook = codebook.map { $0 * 127 / largest }
    }
    return codebook.map { $0.rounded(.toNearestOrEven) }
  }

  /// Encodes row `row` of `matrix` with the codebook and column scales of `encoded`.
  static func row(
    _ row: Int, of matrix: Matrix, like encoded: WeightMatrix, importance: [Float]?
  ) throws -> Row {
    let weights = try weights(encoded, importance: importance)
    let (x, normalizer) = try normalized(row, of: matrix, like: encoded)
    let columnScale = (0..<matrix.columns).reduce(1) {
      max($0, encoded.columnScales?.pointer[$1] ?? 1)
    }
    return encoded.encoding.hasCodebook
      ? rowQ4(
        x, normalizer: normalizer, columns: matrix.columns, weights: weights,
        codebook: encoded.codebook.map { Float($0) }, blockSize: encoded.encoding.blockSize!,
        largestColumnScale: columnScale)
      : rowQ8(
        x, normalizer: normalizer, columns: matrix.columns, weights: weights,
        blockSize: encoded.encoding.blockSize!, largestColumnScale: columnScale)
  }

  /// Factors of squared errors: importance over its mean, at least 1e-4, times the squared column
  /// scale; over the mean again.
  static func weights(_ encoded: WeightMatrix, importance: [Float]?) throws -> [Float] {
    let columns = encoded.geometry.columns
    let padding = [Float](repeating: 0, count: encoded.geometry.paddedColumns - columns)
    if importance == nil && encoded.columnScales == nil {
      return [Float](repeating: 1, count: columns) + padding
    }
    var weights = [Double](repeating: 1, count: columns)
    if let importance {
      let mean = importance.reduce(0) { $0 + Double($1) } / Double(columns)
      for column in 0..<columns where mean > 0 {
        weights[column] = max(Double(importance[column]) / mean, 1e-4)
      }
    }
    if let scales = encoded.columnScales {
      for column in 0..<columns {
        let scale = Double(scales.pointer[column])
        weights[column] *= scale * scale
      }
    }
    let mean = weights.reduce(0, +) / Double(columns)
    return weights.map { Float(max($0 / mean, 1e-12)) } + padding
  }

  /// A padded row over its column scales, brought near 1 by a power of two.
  static func normalized(
    _ row: Int, of matrix: Matrix, like encoded: WeightMatrix
  ) throws -> (x: [Float], normalizer: Float) {
    var x = [Float](repeating: 0, count: encoded.geometry.paddedColumns)
    for column in 0..<matrix.columns {
      let inverse = encoded.columnScales.map { 1 / $0.pointer[column] } ?? 1
      x[column] = matrix[row, column] * inverse
    }
    let largest = x.reduce(0) { max($0, $1.magnitude) }
    let exponent = largest == 0 ? 0 : min(max(-Int(largest.exponent), -127), 127)
    let normalizer = Float(sign: .plus, exponent: exponent, significand: 1)
    return (x.map { $0 * normalizer }, normalizer)
  }
}
