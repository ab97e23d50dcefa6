import TestSupport
import Testing

@testable import TensorCore

/// Comparisons of one instruction set's kernels with ``Reference``, bit by bit.
struct KernelChecks {
  let kernels: Kernels

  init(_ instructionSet: InstructionSet) { kernels = Kernels(instructionSet) }

  init(_ kernels: Kernels) { self.kernels = kernels }

  /// Outputs of all padded rows, token after token.
  func multiply(
    _ weights: WeightMatrix, _ input: [Float], tokens: Int, precision: ActivationPrecision = .int8,
    pool: WorkerPool, slack: Int = 0
  ) throws -> [Float] {
    let rows = weights.geometry.paddedRows
    let stride = rows + slack
    let columns = weights.geometry.columns
    let activations = Activations(maximumTokens: tokens, maximumColumns: columns)
    let source = GuardedMemory(input)
    try activations.load(
      source.floats, tokenCount: tokens, inputStride: columns, for: weights,
      precision: precision, kernels: kernels, pool: pool)
    let output = guardedFloats((tokens - 1) * stride + rows)
    kernels.multiply(
      weights, activations, output: output.floats, outputStride: stride, pool: pool)
    for token in 0..<tokens - 1 {
      for column in rows..<stride {
        #expect(output.floats[token * stride + column] == -987.654, "written between rows")
      }
    }
    return (0..<tokens).flatMap { token in
      (0..<rows).map { output.floats[token * stride + $0] }
    }
  }

  /// The same by the reference alone.
  func expected(
    _ weights: WeightMatrix, _ input: [Float], tokens: Int, precision: ActivationPrecision = .int8
  ) -> [Float] {
    let (columns, padded) = (weights.geometry.columns, weights.geometry.paddedColumns)
    let integer = weights.encoding.isQuantized && precision == .int8
    return (0..<tokens).flatMap { token -> [Float] in
      var row = Array(input[token * columns..<(token + 1) * columns])
      var codes = [Int8](repeating: 0, count: padded)
      var scales = [Float](repeating: 0, count: padded / 16)
      if integer {
        #expect(
          Reference.quantizeActivations(
            row, columnScales: weights.columnScales?.pointer, columns: columns,
            paddedColumns: padded, groupSize: weights.encoding.blockSize!, codes: &codes,
            scales: &scales))
      }
      row += [Float](repeating: 0, count: padded - columns)
      return (0..<weights.geometry.paddedRows).map { n in
        integer
          ? Reference.multiply(weights, row: n, codes: codes, scales: scales)
          : Reference.multiply(weights, row: n, activations: row)
      }
    }
  }

  /// Compares one product; reports at most its first difference.
  func compare(
    _ weights: WeightMatrix, _ input: [Float], tokens: Int, precision: ActivationPrecision = .int8,
    pool: WorkerPool, _ context: @autoclosure () -> String = "",
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let actual = try multiply(
      weights, input, tokens: tokens, precision: precision, pool: pool, slack: tokens % 3)
    let expected = expected(weights, input, tokens: tokens, precision: precision)
    let difference = expected.indices.first { !same(actual[$0], expected[$0]) }
    let rows = weights.geometry.paddedRows
    #expect(
      difference == nil,
      """
      \(weights.encoding) \(weights.geometry.rows)x\(weights.geometry.columns) \
      tokens \(tokens) \(precision) \(context()): token \(difference! / rows) row \
      \(difference! % rows) is \(actual[difference!]), not \(expected[difference!])
      """, sourceLocation: sourceLocation)
  }

  /// Every N and K from 1 to 33, tokens 1...17.
  func smallProducts(_ encoding: BlockEncoding, precision: ActivationPrecision) throws {
    var random = SplitMix64(seed: UInt64(encoding.rawValue))
    let pool = WorkerPool(threadCount: 1)
    for rows in 1...33 {
      for columns in 1...33 {
        let tokens = 1 + (rows * 7 + columns) % 17
        let weights = sampleMatrix(
          encoding, rows: rows, columns: columns, columnScales: columns % 2 == 0, random: &random)
        let input = sampleActivations(tokens: tokens, columns: columns, random: &random)
        try compare(weights, input, tokens: tokens, precision: precision, pool: pool)
      }
    }
  }

  /// Shapes with several column tiles and odd numbers of panels, every token count of a group.
  func largeProducts(_ encoding: BlockEncoding, precision: ActivationPrecision) throws {
    var random = SplitMix64(seed: 100 + UInt64(encoding.rawValue))
    let pool = WorkerPool(threadCount: 2)
    for (rows, columns) in [(80, 577), (41, 1056), (16, 256), (33, 288)] {
      let weights = sampleMatrix(
        encoding, rows: rows, columns: columns, columnScales: rows == 80, random: &random)
      for tokens in Array(1...16) + [40, 70] where tokens < 40 || rows != 80 {
        let input = sampleActivations(tokens: tokens, columns: columns, random: &random)
        try compare(weights, input, tokens: tokens, precision: precision, pool: pool)
      }
    }
    // More panels and more tokens than take their turn with one tile.
    let weights = sampleMatrix(encoding, rows: 700, columns: 40, random: &random)
    for tokens in [14, 66, 300] {
      let input = sampleActivations(tokens: tokens, columns: 40, random: &random)
      try compare(weights, input, tokens: tokens, precision: precision, pool: pool)
    }
  }

  /// Extreme codes and scales times extreme activations.
  func patterns(_ encoding: BlockEncoding, precision: ActivationPrecision) throws {
    var random = SplitMix64(seed: 200 + UInt64(encoding.rawValue))
    let pool = WorkerPool(threadCount: 1)
    for pattern in WeightPattern.allCases {
      for activations in ActivationPattern.allCases {
        for tokens in [1, 3, 11] {
          let weights = sampleMatrix(
            encoding, rows: 17, columns: 288, pattern: pattern, random: &random)
          let input = sampleActivations(
            tokens: tokens, columns: 288, pattern: activations, random: &random)
          try compare(
            weights, input, tokens: tokens, precision: precision, pool: pool,
            "\(pattern) \(activations)")
        }
      }
    }
  }

  /// The bits of a token do not depend on the threads, nor on the other tokens of its batch.
  func invariance(_ encoding: BlockEncoding, precision: ActivationPrecision) throws {
    var random = SplitMix64(seed: 300 + UInt64(encoding.rawValue))
    // The reference has no tiles whose borders a batch could cross.
    let (columns, tokens) = (320, kernels.instructionSet == .scalar ? 9 : 80)
    let weights = sampleMatrix(
      encoding, rows: 200, columns: columns, columnScales: true, random: &random)
    let input = sampleActivations(tokens: tokens, columns: columns, random: &random)
    let whole = try multiply(
      weights, input, tokens: tokens, precision: precision, pool: WorkerPool(threadCount: 1))
    for threads in 2...4 {
      let pool = WorkerPool(threadCount: threads)
      let again = try multiply(weights, input, tokens: tokens, precision: precision, pool: pool)
      #expect(again == whole, "\(threads) threads")
    }
    let pool = WorkerPool(threadCount: 2)
    for cut in [1, 2, 3, 4, 7, 8, 12, 13, 64, 66] where cut < tokens {
      var pieces: [Float] = []
      for first in stride(from: 0, to: tokens, by: cut) {
        let count = min(cut, tokens - first)
        let piece = Array(input[first * columns..<(first + count) * columns])
        pieces += try multiply(weights, piece, tokens: count, precision: precision, pool: pool)
      }
      #expect(pieces == whole, "pieces of \(cut)")
    }
  }

  func nonFiniteActivations() throws {
    var random = SplitMix64(seed: 400)
    let pool = WorkerPool(threadCount: 3)
    for encoding in BlockEncoding.allCases {
      for columns in [5, 33, 64] {
        let weights = sampleMatrix(encoding, rows: 20, columns: columns, random: &random)
        for value in [Float.infinity, -.infinity, .nan] {
          var input = sampleActivations(tokens: 9, columns: columns, random: &random)
          input[6 * columns + columns - 1] = value
          input[4 * columns] = value
          #expect(throws: NonFiniteActivation(token: 4)) {
            try multiply(weights, input, tokens: 9, pool: pool)
          }
        }
      }
    }
    // Finite, but not once multiplied by its column scale.
    let factors = ColumnScales([1, 4])
    let plain = sampleMatrix(.q8b16, rows: 1, columns: 2, random: &random)
    let scaled = WeightMatrix(
      encoding: .q8b16, geometry: plain.geometry,
      streams: Dictionary(
        uniqueKeysWithValues: plain.encoding.streams.map { ($0, plain.stream($0)!) }),
      columnScales: factors, owners: [])
    _ = withExtendedLifetime(plain) {
      #expect(throws: NonFiniteActivation(token: 0)) {
        try multiply(scaled, [1, 3e38], tokens: 1, pool: pool)
      }
    }
  }

  /// Batches of different matrices in one buffer, with rows from anywhere, are the products of each.
  func batches(_ encoding: BlockEncoding, precision: ActivationPrecision) throws {
    var random = SplitMix64(seed: 700 + UInt64(encoding.rawValue))
    let (rows, columns, inputRows) = (33, 70, 9)
    let counts = kernels.instructionSet == .scalar ? [1, 3] : [1, 40, 3, 13, 7]
    let total = counts.reduce(0, +)
    let input = sampleActivations(tokens: inputRows, columns: columns, random: &random)
    let source = (0..<total).map { _ in Int(random.next() % UInt64(inputRows)) }
    var batches: [Range<Int>] = []
    for count in counts {
      let first = batches.last?.upperBound ?? 0
      batches.append(first..<first + count)
    }
    let matrices = counts.map { _ in
      sampleMatrix(encoding, rows: rows, columns: columns, random: &random)
    }
    let pool = WorkerPool(threadCount: 3)
    let activations = Activations(maximumTokens: total, maximumColumns: columns)
    try activations.load(
      input, source: source, batches: batches, inputStride: columns, for: matrices[0],
      precision: precision, kernels: kernels, pool: pool)
    let stride = matrices[0].geometry.paddedRows
    let output = guardedFloats(total * stride)
    kernels.multiply(
      zip(matrices, batches).map {
        .init(.init($0, activations, batch: $1, output: output.floats, outputStride: stride))
      }, pool: pool)
    // The same, of matrices that are chosen while the loop runs.
    let places = UnsafeMutableBufferPointer<Int>.allocate(capacity: batches.count)
    places.initialize(repeating: 0)
    defer { places.deallocate() }
    let (list, chosen) = (MatrixList(matrices), guardedFloats(total * stride))
    pool.run([
      LoopStage(count: places.count) { places[$0] = $0 },
      kernels.stage(
        batches.enumerated().map { place, batch in
          .init(
            .init(
              list, chosen: places.baseAddress! + place, activations, batch: batch,
              output: chosen.floats, outputStride: stride))
        }, threadCount: pool.threadCount),
    ])
    #expect(
      (0..<total * stride).allSatisfy { same(chosen.floats[$0], output.floats[$0]) }, "chosen")
    for (matrix, batch) in zip(matrices, batches) {
      let gathered = batch.flatMap { row in
        input[source[row] * columns..<(source[row] + 1) * columns]
      }
      let expected = expected(matrix, gathered, tokens: batch.count, precision: precision)
      let first = batch.lowerBound * stride
      #expect(
        expected.indices.allSatisfy { same(output.floats[first + $0], expected[$0]) },
        "batch \(batch)")
    }
    #expect(throws: NonFiniteActivation(token: source.firstIndex(of: source[2])!)) {
      var bad = input
      bad[source[2] * columns + 3] = .nan
      try activations.load(
        bad, source: source, batches: batches, inputStride: columns, for: matrices[0],
        precision: precision, kernels: kernels, pool: pool)
    }
  }

  /// Parts of two matrices that one thread computes together and goes on with, into the activations
  /// of a third: whatever the ranges are, the products are those of whole rows.
  func groups(_ encoding: BlockEncoding, precision: ActivationPrecision) throws {
    var random = SplitMix64(seed: 900 + UInt64(encoding.rawValue))
    // The features, 5 panels, are no multiple of a block; those of `both` are its last panels.
    let (columns, features) = (70, 72)
    let both = sampleMatrix(encoding, rows: 80 + features, columns: columns, random: &random)
    let other = sampleMatrix(encoding, rows: features, columns: columns, random: &random)
    let down = sampleMatrix(
      encoding, rows: 33, columns: features, columnScales: true, random: &random)
    for tokens in kernels.instructionSet == .scalar ? [1, 3] : [1, 3, 8, 12, 13, 40] {
      let input = sampleActivations(tokens: tokens, columns: columns, random: &random)
      let first = expected(both, input, tokens: tokens, precision: precision)
      let second = expected(other, input, tokens: tokens, precision: precision)
      let sums = (0..<tokens).flatMap { token in
        (0..<features).map {
          first[token * both.geometry.paddedRows + 80 + $0]
            + second[token * other.geometry.paddedRows + $0]
        }
      }
      let expected = expected(down, sums, tokens: tokens, precision: precision)
      for threads in [1, 3] {
        let pool = WorkerPool(threadCount: threads)
        let activations = Activations(maximumTokens: tokens, maximumColumns: columns)
        try activations.load(
          input, tokenCount: tokens, inputStride: columns, for: both, precision: precision,
          kernels: kernels, pool: pool)
        let stride = both.geometry.paddedRows
        let (left, right) = (guardedFloats(tokens * stride), guardedFloats(tokens * stride))
        let entered = Activations(maximumTokens: tokens, maximumColumns: features)
        let entry = entered.begin(
          tokenCount: tokens, for: down, precision: precision, kernels: kernels)
        let counts = AlignedBuffer(byteCount: 80 * 4)
        let group = Kernels.ProductGroup(
          .init(
            both, activations, panels: 5..<10, output: left.floats, outputStride: stride),
          [.init(other, activations, output: right.floats, outputStride: stride)],
          rowMultiple: down.encoding.blockSize ?? 16
        ) { rows, _ in
          for token in 0..<tokens {
            let row = left.floats + token * stride + 80
            for index in rows { row[index] += right.floats[token * stride + index] }
            entry.enter(row, columns: rows, token: token, of: 0..<tokens)
          }
          for row in rows { counts.floats[row] += 1 }
        }
        kernels.multiply([group], pool: pool)
        #expect((0..<80).allSatisfy { counts.floats[$0] == 1 }, "every row once")
        try entry.finish()
        let output = guardedFloats(tokens * 48)
        kernels.multiply(down, entered, output: output.floats, outputStride: 48, pool: pool)
        let difference = expected.indices.first { !same(output.floats[$0], expected[$0]) }
        #expect(
          difference == nil, "\(encoding) \(precision), \(tokens) tokens, \(threads) threads")
      }
    }
  }

  func mixtures() {
    var random = SplitMix64(seed: 800)
    for (count, rowCount) in [(16, 1), (32, 2), (80, 8), (1536, 6)] {
      let rows = (0..<rowCount).map { _ in
        GuardedMemory((0..<count).map { _ in random.normal() })
      }
      let weights = (0..<rowCount).map { _ in random.normal() }
      var expected = [Float](repeating: 0, count: count)
      withExtendedLifetime(rows) {
        Reference.mix(
          rows.map { UnsafePointer($0.floats) }, weights: weights, count: count, output: &expected)
      }
      let output = guardedFloats(count)
      let pointers = rows.map { Optional(UnsafePointer($0.floats)) }
      withExtendedLifetime(rows) {
        pointers.withUnsafeBufferPointer {
          kernels.mix($0, weights: weights, count: count, output: output.floats)
        }
      }
      #expect((0..<count).allSatisfy { same(output.floats[$0], expected[$0]) }, "\(count)")
    }
  }

  func rotations() {
    var random = SplitMix64(seed: 1000)
    for size in [2, 6, 30, 32, 34, 64, 80, 128] {
      let head = (0..<size).map { _ in random.normal() }
      let cosines = (0..<size / 2).map { _ in random.normal() }
      let sines = (0..<size / 2).map { _ in random.normal() }
      var expected = head
      RotaryTable.rotate(head, size: size, cosines: cosines, sines: sines, output: &expected)
      let (source, output) = (GuardedMemory(head), guardedFloats(size))
      let (left, right) = (GuardedMemory(cosines), GuardedMemory(sines))
      for result in [output, source] {
        kernels.rotate(
          source.floats, size: size, cosines: left.floats, sines: right.floats,
          output: result.floats)
        #expect((0..<size).allSatisfy { same(result.floats[$0], expected[$0]) }, "\(size)")
      }
    }
  }

  func norms() {
    var random = SplitMix64(seed: 500)
    for count in Array(1...33) + [2048, 4095] {
      for magnitude: Float in [1, 1e-30, 1e18] {
        let input = (0..<count).map { _ in random.normal() * magnitude }
        let weight = (0..<count).map { _ in random.normal() }
        var expected = input
        Reference.rmsNorm(
          input, weight: weight, count: count, epsilon: 1e-5, output: &expected)
        let output = guardedFloats(count)
        let (source, factors) = (GuardedMemory(input), GuardedMemory(weight))
        kernels.rmsNorm(
          source.floats, weight: factors.floats, count: count, epsilon: 1e-5,
          output: output.floats)
        #expect((0..<count).allSatisfy { same(output.floats[$0], expected[$0]) }, "\(count)")
        kernels.rmsNorm(
          source.floats, weight: factors.floats, count: count, epsilon: 1e-5,
          output: source.floats)
        #expect((0..<count).allSatisfy { same(source.floats[$0], expected[$0]) }, "in place")
      }
    }
  }

  func gates() {
    var random = SplitMix64(seed: 600)
    let special: [Float] = [
      0, -0.0, .infinity, -.infinity, .nan, 87, -87, 88, -88, 88.5, -88.5, 1e30, -1e30, 0x1p-140,
      86.99999, -86.99999, 87.00001, -87.00001,
    ]
    for count in Array(1...33) + [2048, 9999] {
      var gate = (0..<count).map { _ in random.normal() * 30 }
      for index in gate.indices where index % 3 == 1 {
        gate[index] = special[Int(random.next() % UInt64(special.count))]
      }
      let up = (0..<count).map { _ in random.normal() }
      var expected = gate
      Reference.gatedSilu(gate: gate, up: up, count: count, output: &expected)
      let (left, right) = (GuardedMemory(gate), GuardedMemory(up))
      kernels.gatedSilu(
        gate: left.floats, up: right.floats, count: count, output: left.floats)
      let difference = (0..<count).first { !same(left.floats[$0], expected[$0]) }
      #expect(difference == nil, "gate \(gate[difference!])")
    }
  }
}
