import TensorCore
import TestSupport
import Testing

/// binary16 in integers against the compiler's.
@Suite struct HalfTests {
  @Test func valuesOfAllHalves() {
    for bits in UInt16.min...UInt16.max {
      let (value, expected) = (Reference.value(half: bits), Float(Float16(bitPattern: bits)))
      #expect(value.bitPattern == expected.bitPattern || value.isNaN && expected.isNaN)
      if !value.isNaN { #expect(Reference.half(value) == bits) }
    }
  }

  @Test func rounding() {
    var random = SplitMix64(seed: 3)
    var values: [Float] = [.infinity, -.infinity, 1e38, 0x1p-149, 65519.996, 65520]
    for bits in UInt16(0)..<0x7C00 {
      // Half way to the next, and next to that.
      let (low, high) = (Float(Float16(bitPattern: bits)), Float(Float16(bitPattern: bits + 1)))
      let middle = high.isInfinite ? 65520 : (low + high) / 2
      values += [middle, middle.nextUp, -middle.nextDown]
    }
    for _ in 0..<100_000 {
      values.append(Float(bitPattern: UInt32(truncatingIfNeeded: random.next())))
    }
    for value in values where !value.isNaN {
      #expect(Reference.half(value) == Float16(value).bitPattern, "\(value)")
    }
    #expect(Reference.value(half: Reference.half(.nan)).isNaN)
  }
}
