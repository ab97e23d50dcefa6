import Foundation
import TensorCore
import TestSupport
import Testing

@testable import ModelFiles

@Suite struct SlabRoundTripTests {
  static let shapes = [(1, 1), (19, 37), (33, 70), (16, 32)]

  @Test(arguments: BlockEncoding.allCases, SlabProfile.allCases)
  func matricesComeBackBitForBit(encoding: BlockEncoding, profile: SlabProfile) throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      let statistics = ErrorStatistics(
        normalizedMeanSquaredError: 0.004, maximumAbsoluteError: 0.5, cosineSimilarity: 0.998)
      let scales = SlabFixtures.scales(37, seed: 5)
      try SlabFixtures.write(path, profile: profile) { writer in
        for (index, (rows, columns)) in Self.shapes.enumerated() {
          let isScaled = encoding.isQuantized && columns == 37
          try writer.append(
            SlabFixtures.matrix(
              encoding, rows: rows, columns: columns, seed: UInt64(index),
              columnScales: isScaled ? ColumnScales(scales) : nil),
            name: "m\(index)", shape: [rows, columns], sourceType: .bf16,
            columnScales: isScaled ? "scales" : nil, statistics: statistics)
        }
        try writer.append(scales, name: "scales", shape: [37], sourceType: .f32)
      }
      let slab = try Slab(path: path)
      #expect(slab.profile == profile)
      #expect(slab.tensors.map(\.name) == ["m0", "m1", "m2", "m3", "scales"])
      for (index, (rows, columns)) in Self.shapes.enumerated() {
        let tensor = try #require(slab.tensor(named: "m\(index)"))
        #expect(tensor.shape == [rows, columns])
        #expect(tensor.encoding == encoding && tensor.layout == .panel16)
        #expect(tensor.sourceType == .bf16 && tensor.statistics == statistics)
        #expect(tensor.offset % SlabFormat.segmentAlignment == 0)
        let matrix = try slab.matrix(named: tensor.name, pool: SlabFixtures.pool)
        let original = SlabFixtures.matrix(
          encoding, rows: rows, columns: columns, seed: UInt64(index))
        #expect(matrix.allBytes == original.allBytes)
        #expect(matrix.geometry == original.geometry)
        let isScaled = encoding.isQuantized && columns == 37
        #expect((matrix.columnScales != nil) == isScaled)
        if let read = matrix.columnScales {
          #expect((0..<37).map { read.pointer[$0] } == scales)
          #expect(
            read === (try slab.matrix(named: tensor.name, pool: SlabFixtures.pool)).columnScales)
        }
      }
      #expect(try slab.values(named: "scales") == scales)
      try slab.verify(pool: SlabFixtures.pool)
    }
  }
}
