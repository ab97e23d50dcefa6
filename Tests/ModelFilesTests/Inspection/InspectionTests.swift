import Foundation
import TensorCore
import TestSupport
import Testing

@testable import ModelFiles

@Suite struct InspectionTests {
  private static let pools = [1, 3].map { WorkerPool(threadCount: $0) }

  private static func rows(_ values: [Float], columns: Int) -> TensorRows {
    let buffer = AlignedBuffer(byteCount: max(4, values.count * 4))
    for (index, value) in values.enumerated() { buffer.floats[index] = value }
    let bytes = UnsafeRawBufferPointer(rebasing: buffer.bytes[..<(values.count * 4)])
    return .view(
      MatrixView(bytes, elementType: .f32, rows: values.count / columns, columns: columns),
      owner: buffer)
  }

  /// The last block of a row is shorter; what is no number is furthest; equal errors in their order.
  @Test func largestErrorsComeFirst() {
    let original: [Float] = [
      1, 2, 3, 4, 0,
      1, 1, 1, 1, 1,
    ]
    let values: [Float] = [
      1, 2.5, 3, 4, 2,
      1, 1, .nan, 1, 1.5,
    ]
    for pool in Self.pools {
      let errors = BlockErrors(
        of: Self.rows(values, columns: 5), against: Self.rows(original, columns: 5), blockSize: 2,
        pool: pool)
      #expect(errors.largest.map(\.row) == [1, 0, 0, 1])
      #expect(errors.largest.map(\.columns) == [2..<4, 4..<5, 0..<2, 4..<5])
      #expect(errors.largest.map(\.squaredError) == [.infinity, 4, 0.25, 0.25])
      #expect(
        errors.largest.map(\.normalizedMeanSquaredError) == [.infinity, .infinity, 0.05, 0.25])
      #expect(errors.largest.dropFirst().map(\.largestDifference) == [2, 0.5, 0.5])
    }
  }

  @Test func distributionsAreCounted() {
    // Column 2 is an outlier, row 1 all zero; two values are no numbers.
    var values: [Float] = [
      1, -1, 8, 0.5,
      0, 0, 0, 0,
      2, 1, -8, 1,
    ]
    values += [.nan, -.infinity, 4, 1]
    for pool in Self.pools {
      let statistics = ValueStatistics(Self.rows(values, columns: 4), pool: pool)
      #expect(statistics.count == 16 && statistics.nonFiniteCount == 2)
      #expect(statistics.zeroCount == 4)
      #expect(statistics.minimum == -8 && statistics.maximum == 8 && statistics.bound == 8)
      #expect(statistics.mean == 9.5 / 14)
      #expect(statistics.columns.first?.index == 2)
      #expect(statistics.columns.first?.rootMeanSquare == 6)
      #expect(statistics.rows.first?.index == 2)
      #expect(statistics.histogram.reduce(0, +) == 14)
      #expect(statistics.histogram.first == 1 && statistics.histogram.last == 1)
      #expect(statistics.histogram[ValueStatistics.binCount / 2] == 4)
    }
    let none = ValueStatistics(Self.rows([], columns: 4), pool: Self.pools[0])
    #expect(none.count == 0 && none.histogram.allSatisfy { $0 == 0 })
  }

  @Test func threadsDoNotChangeFigures() {
    let matrix = SlabFixtures.matrix(.q4b16, rows: 300, columns: 70, seed: 5)
    let statistics = Self.pools.map { ValueStatistics(.weights(WeightTensor(matrix)), pool: $0) }
    #expect(statistics[0] == statistics[1])
    #expect(statistics[0].count == 300 * 70)
  }

  @Test(arguments: [BlockEncoding.q4b16, .q4b32, .q8b16, .q8b32])
  func codesAndScalesAreCounted(_ encoding: BlockEncoding) throws {
    let (rows, columns) = (37, 70)
    let scales = ColumnScales(SlabFixtures.scales(columns, seed: 2))
    let matrix = SlabFixtures.matrix(
      encoding, rows: rows, columns: columns, seed: 9, columnScales: scales)
    let size = try #require(encoding.blockSize)
    for pool in Self.pools {
      let blocks = try #require(BlockStatistics(WeightTensor(matrix), pool: pool))
      #expect(blocks.blockCount == rows * ((columns + size - 1) / size))
      #expect(blocks.scaleCounts.reduce(0, +) == blocks.blockCount)
      #expect(blocks.zeroBlockCount >= (columns + size - 1) / size)  // row 1
      #expect(blocks.codeCounts.reduce(0, +) == rows * columns)
      #expect(blocks.codeCounts.count == (encoding.hasCodebook ? 16 : 256))

      // Against every block, one after the other.
      let values = blocks.codeValues.map { Int($0) }.sorted()
      let gap = zip(values.dropFirst(), values).map { $0 - $1 }.max()!
      var largest: Float = 0
      for row in 0..<rows {
        for first in stride(from: 0, to: columns, by: size) {
          let scale = Int(
            matrix.blockScales[
              matrix.geometry.blockScaleOffset(row: row, block: first / size, blockSize: size)])
          let factor = (first..<min(first + size, columns)).map { scales.pointer[$0] }.max()!
          largest = max(
            largest, Float(scale * scale * gap) / 2 * matrix.rowScales[row] * factor)
        }
      }
      #expect(blocks.coarsest.count == 5)
      #expect(blocks.coarsest[0].largestRounding == largest)
      #expect(
        blocks.coarsest.map(\.largestRounding)
          == blocks.coarsest.map(\.largestRounding).sorted(by: >))
    }
    #expect(
      BlockStatistics(
        WeightTensor(SlabFixtures.matrix(.bf16, rows: 2, columns: 2, seed: 1)), pool: Self.pools[0])
        == nil)
  }

  @Test func rolesOfGGUF() {
    #expect(TensorRole(ggufName: "blk.12.ffn_down.weight") == .down)
    #expect(TensorRole(ggufName: "blk.0.attn_output.weight") == .attentionOutput)
    #expect(TensorRole(ggufName: "output.weight") == .output)
    #expect(TensorRole(ggufName: "output_norm.weight") == .norm)
    #expect(TensorRole(ggufName: "blk.1.ssm_in.weight") == .mambaInput)
    #expect(TensorRole(ggufName: "blk.1.ssm_a") == .stateSpace)
    #expect(TensorRole(ggufName: "blk.1.ssm_dt.bias") == .stateSpace)
    #expect(TensorRole(ggufName: "blk.1.ssm_x.weight") == nil)
    #expect(TensorRole(ggufName: "blk.1.ffn_gate_inp.weight") == .router)
    #expect(TensorRole(ggufName: "blk.1.ffn_up_exps.weight") == .expertGateUp)
    #expect(TensorRole(ggufName: "blk.1.ffn_down_exps.weight") == .expertDown)
    #expect(TensorRole(ggufName: "blk.1.ffn_down_shexp.weight") == .down)
    #expect(TensorRole(ggufName: "blk.1.attn_qkv.weight") == .queryKeyValue)
    #expect(TensorRole(ggufName: "blk.1.attn_qkv.bias") == .bias)
    #expect(TensorRole(ggufName: "position_embd.weight") == .positions)
    #expect(TensorRole.layer(ofGGUFTensor: "blk.12.ffn_down.weight") == 12)
    #expect(TensorRole.layer(ofGGUFTensor: "blk.-1.x.weight") == nil)
    #expect(TensorRole.layer(ofGGUFTensor: "output.weight") == nil)
  }
}
