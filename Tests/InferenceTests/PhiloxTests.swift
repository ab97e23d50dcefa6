import Testing

@testable import Inference

@Suite struct PhiloxTests {
  /// The known answers that come with the authors' Random123 library (philox 4 x 32, 10 rounds).
  @Test(
    arguments: [
      ([0, 0, 0, 0], [0, 0], [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]),
      (
        [0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF], [0xFFFF_FFFF, 0xFFFF_FFFF],
        [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]
      ),
      (
        [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344], [0xA409_3822, 0x299F_31D0],
        [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1]
      ),
    ] as [([UInt32], [UInt32], [UInt32])])
  func knownAnswers(counter: [UInt32], key: [UInt32], expected: [UInt32]) {
    let block = Philox.block(counter: SIMD4(counter), key: SIMD2(key))
    #expect(block == SIMD4(expected))
  }

  @Test func drawTakesTheUpperBits() {
    // 0xE169C58D_6627E8D5 without its lowest eleven bits, as a fraction of 2^64.
    let expected = Double(0xE169_C58D_6627_E8D5 as UInt64 >> 11) / 9_007_199_254_740_992
    #expect(Philox.draw(seed: 0, choice: 0, position: 0) == expected)
  }

  @Test func everyPartOfTheKeyCounts() {
    let draws = [
      Philox.draw(seed: 1, choice: 2, position: 3), Philox.draw(seed: 2, choice: 2, position: 3),
      Philox.draw(seed: 1 << 32, choice: 2, position: 3),
      Philox.draw(seed: 1, choice: 1, position: 3), Philox.draw(seed: 1, choice: 2, position: 4),
      Philox.draw(seed: 1, choice: 2, position: 3 << 32),
    ]
    #expect(Set(draws).count == draws.count)
    #expect(draws.allSatisfy { 0 <= $0 && $0 < 1 })
  }
}
