import Foundation
import TensorCore
import TestSupport
import Testing

@testable import ModelFiles

/// Tensors that hold a matrix for each expert.
@Suite struct SlabExpertTests {
  private static let (count, rows, columns) = (5, 19, 37)

  @Test(arguments: BlockEncoding.allCases, SlabProfile.allCases)
  func matricesOfExpertsComeBackBitForBit(encoding: BlockEncoding, profile: SlabProfile) throws {
    let shape = [Self.count, Self.rows, Self.columns]
    let scales = SlabFixtures.scales(Self.columns, seed: 5)
    let name = encoding.isQuantized ? "scales" : nil
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try SlabFixtures.write(path, profile: profile) { writer in
        try writer.append(
          SlabFixtures.experts(
            encoding, count: Self.count, rows: Self.rows, columns: Self.columns,
            columnScales: name.map { _ in ColumnScales(scales) }),
          name: "experts", shape: shape, sourceType: .bf16, columnScales: name, statistics: nil)
        try writer.append(scales, name: "scales", shape: [Self.columns], sourceType: .f32)
      }
      let slab = try Slab(path: path)
      try slab.verify(pool: SlabFixtures.pool)
      let tensor = try #require(slab.tensor(named: "experts"))
      #expect(tensor.shape == shape && tensor.layout == .panel16)
      #expect(tensor.logicalByteCount == tensor.form?.byteCount(in: encoding))
      let loaded =
        try WeightLoading.allCases.map {
          try SlabWeights(slab, loading: $0, pool: SlabFixtures.pool).tensor(named: "experts")
        } + [slab.weights(named: "experts", pool: SlabFixtures.pool)]
      let rows = try slab.checkedRows(of: tensor, pool: SlabFixtures.pool)
      #expect(rows.rows == Self.count * Self.rows && rows.columns == Self.columns)
      for expert in 0..<Self.count {
        let original = SlabFixtures.matrix(
          encoding, rows: Self.rows, columns: Self.columns, seed: UInt64(100 + expert),
          columnScales: name.map { _ in ColumnScales(scales) })
        for weights in loaded {
          #expect(weights.matrices[expert].allBytes == original.allBytes)
          #expect((weights.columnScales != nil) == encoding.isQuantized)
        }
        var (found, expected) = (
          [Float](repeating: 0, count: Self.columns), [Float](repeating: 1, count: Self.columns)
        )
        rows.copyRow(expert * Self.rows + 3, into: &found)
        original.copyRow(3, into: &expected)
        #expect(found == expected)
      }
      #expect(throws: SlabError.self) {
        try slab.matrix(named: "experts", pool: SlabFixtures.pool)
      }
    }
  }

  @Test func profilesAndShapesDecideTheIdentity() throws {
    try Place.withTemporaryDirectory { directory in
      func root(_ profile: SlabProfile, _ shape: [Int]) throws -> Digest {
        let path = directory.appending(path: "a.slab").path
        try SlabFixtures.write(path, profile: profile, replacing: true) { writer in
          try writer.append(
            SlabFixtures.experts(
              .q8b16, count: shape[0], rows: shape[1], columns: shape[2]),
            name: "experts", shape: shape, sourceType: .bf16, columnScales: nil, statistics: nil)
        }
        return try Slab(path: path).rootDigest
      }
      let experts = try root(.run, [2, 16, 32])
      #expect(try root(.ship, [2, 16, 32]) == experts)
      #expect(try root(.run, [1, 32, 32]) != experts)
    }
  }

  @Test func paddingOfEveryExpertIsVerified() throws {
    let matrices = (0..<3).map { seed in
      SlabFixtures.matrix(.q8b32, rows: 17, columns: 40, seed: UInt64(seed))
    }
    let geometry = matrices[0].geometry
    for (kind, offset) in [
      (StreamKind.codes, geometry.elementOffset(row: 17, column: 0, elementBytes: 1)),
      (.blockScales, geometry.blockScaleOffset(row: 20, block: 1, blockSize: 32)),
      (.rowScales, 4 * 17),
    ] {
      let weights = SlabFixtures.experts(matrices)
      let form = weights.form
      #expect(form.firstNonzeroPadding(weights.stream(kind)!, kind, .q8b32) == nil)
      let place = form.range(ofMatrix: 2, in: kind, .q8b32).lowerBound + offset
      UnsafeMutableRawPointer(mutating: weights.stream(kind)!.baseAddress!).storeBytes(
        of: 1, toByteOffset: place, as: UInt8.self)
      #expect(form.firstNonzeroPadding(weights.stream(kind)!, kind, .q8b32) == place)
      try Place.withTemporaryDirectory { directory in
        _ = #expect(throws: SlabError.self) {
          try SlabFixtures.write(directory.appending(path: "a.slab").path, profile: .run) {
            try $0.append(
              weights, name: "experts", shape: [3, 17, 40], sourceType: .f32, columnScales: nil,
              statistics: nil)
          }
        }
      }
    }
  }

  @Test func sizesThatCouldOverflowAreNoForms() {
    #expect(MatrixForm(shape: [1 << 12, 1 << 20, 1 << 20]) != nil)
    #expect(MatrixForm(shape: [1 << 12, 1 << 31, 1 << 24]) == nil)
    #expect(MatrixForm(shape: [(1 << 12) + 1, 1, 1]) == nil)
    #expect(MatrixForm(shape: [0, 1, 1]) == nil)
    #expect(MatrixForm(shape: [2, 0, 1]) == nil)
    #expect(MatrixForm(shape: [7]) == nil)
    #expect(MatrixForm(shape: [1, 1, 1, 1]) == nil)
  }

  @Test func statisticsCountAllExperts() throws {
    for encoding in BlockEncoding.allCases where encoding.isQuantized {
      let weights = SlabFixtures.experts(encoding, count: 3, rows: 19, columns: 40)
      let all = try [1, 3].map {
        try #require(BlockStatistics(weights, pool: WorkerPool(threadCount: $0)))
      }
      let parts = try weights.matrices.map {
        try #require(BlockStatistics(WeightTensor($0), pool: SlabFixtures.pool))
      }
      #expect(all[0].coarsest == all[1].coarsest && all[0].codeCounts == all[1].codeCounts)
      #expect(all[0].blockCount == parts.reduce(0) { $0 + $1.blockCount })
      for index in 0..<256 {
        #expect(all[0].scaleCounts[index] == parts.reduce(0) { $0 + $1.scaleCounts[index] })
        let value = Int8(index - 128)
        let count = parts.reduce(0) { sum, part in
          zip(part.codeValues, part.codeCounts).reduce(sum) { $0 + ($1.0 == value ? $1.1 : 0) }
        }
        #expect(all[0].codeCounts[index] == count)
      }
      let coarsest = parts.enumerated().flatMap { index, part in
        part.coarsest.map { ($0.largestRounding, $0.row + 19 * index) }
      }.sorted { ($1.0, $0.1) < ($0.0, $1.1) }
      #expect(all[0].coarsest.map(\.row) == coarsest.prefix(5).map(\.1))
    }
  }
}
