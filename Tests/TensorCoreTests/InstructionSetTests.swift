import TestSupport
import Testing

@testable import TensorCore

@Suite struct InstructionSetTests {
  @Test func scalarIsAlwaysThere() {
    #expect(InstructionSet.supported.first == .scalar)
    #expect(InstructionSet.supported.contains(.avx2) || !InstructionSet.avx512vnni.isSupported)
  }

  @Test func selection() throws {
    #expect(try InstructionSet.select(nil) == InstructionSet.supported.last)
    for set in InstructionSet.supported {
      #expect(try InstructionSet.select(set.rawValue) == set)
    }
    for name in ["", "AVX2", "avx512", "scalar ", "sse2"] {
      #expect(throws: InstructionSetError.unknown(name)) { try InstructionSet.select(name) }
    }
    for set in InstructionSet.allCases where !set.isSupported {
      #expect(throws: InstructionSetError.unsupported(set)) {
        try InstructionSet.select(set.rawValue)
      }
    }
    #expect("\(InstructionSetError.unknown("x"))".contains("scalar"))
  }

  @Test func featuresAgreeWithSupport() {
    let present = Set(ProcessorFeature.all.filter(\.isPresent).map(\.name))
    #expect(InstructionSet.avx2.isSupported == present.isSuperset(of: ["avx2", "fma"]))
    #expect(InstructionSet.neon.isSupported == present.contains("dotprod"))
    #expect(
      InstructionSet.avxvnni.isSupported
        == (present.isSuperset(of: ["avx2", "fma", "avxvnni"])
          || present.isSuperset(of: ["avx2", "fma", "avx512f", "avx512vl", "avx512vnni"])))
    #expect(
      InstructionSet.avx512vnni.isSupported
        == present.isSuperset(of: [
          "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni",
        ]))
  }

  @Test(arguments: BlockEncoding.allCases)
  func copyRow(encoding: BlockEncoding) {
    var random = SplitMix64(seed: 42)
    for pattern in WeightPattern.allCases {
      for columns in [1, 7, 8, 31, 32, 33, 100] {
        let weights = sampleMatrix(
          encoding, rows: 18, columns: columns, pattern: pattern,
          columnScales: columns % 2 == 0, random: &random)
        let row = guardedFloats(columns)
        for index in [0, 5, 17] {
          weights.copyRow(index, into: row.floats)
          #expect(
            (0..<columns).allSatisfy {
              same(row.floats[$0], Reference.dequantize(weights, row: index, column: $0))
            })
        }
      }
    }
  }

  @Test func ceilings() throws {
    let pool = WorkerPool(threadCount: 2)
    let bandwidth = Ceilings.readBandwidth(pool: pool, byteCount: 1 << 24)
    #expect(bandwidth > 1e8 && bandwidth < 1e13)
    let peak = Ceilings.int8Peak(pool: pool)
    #expect((peak == nil) == (InstructionSet.supported == [.scalar]))
    if let peak { #expect(peak > 1e9 && peak < 1e15) }
  }
}
