import Foundation
import TensorCore
import TestSupport
import Testing

/// |a − b| in units in the last place of b.
private func distance(_ a: Double, _ b: Double) -> Double {
  a == b ? 0 : (a - b).magnitude / max(b.ulp, .leastNormalMagnitude)
}

@Suite struct PortableMathTests {
  @Test func exponential() {
    var random = SplitMix64(seed: 1)
    for _ in 0..<200_000 {
      let x = Double.random(in: -708...709.5, using: &random)
      #expect(distance(PortableMath.exp(x), exp(x)) <= 1, "exp(\(x))")
      let small = Double.random(in: -1...1, using: &random)
      #expect(distance(PortableMath.exp(small), exp(small)) <= 1, "exp(\(small))")
    }
    #expect(PortableMath.exp(0) == 1)
    #expect(PortableMath.exp(-740) == exp(-740))
    #expect(PortableMath.exp(710) == .infinity)
    #expect(PortableMath.exp(-746) == 0)
    #expect(PortableMath.exp(.nan).isNaN)
  }

  @Test func logarithm() {
    var random = SplitMix64(seed: 2)
    for _ in 0..<200_000 {
      let x = exp(Double.random(in: -700...700, using: &random))
      #expect(distance(PortableMath.log(x), log(x)) <= 1, "log(\(x))")
      let near = Double.random(in: 0.5...2, using: &random)
      #expect(distance(PortableMath.log(near), log(near)) <= 1, "log(\(near))")
    }
    #expect(PortableMath.log(1) == 0)
    #expect(PortableMath.log(0) == -.infinity)
    #expect(PortableMath.log(-1).isNaN)
    #expect(PortableMath.log(.infinity) == .infinity)
    #expect(distance(PortableMath.log(.leastNonzeroMagnitude), log(.leastNonzeroMagnitude)) <= 1)
  }

  @Test func sineAndCosine() {
    var random = SplitMix64(seed: 3)
    for limit in [1.0, 10, 1e4, 1e6, 5e8] {
      for _ in 0..<100_000 {
        let x = Double.random(in: -limit...limit, using: &random)
        #expect(distance(PortableMath.sin(x), sin(x)) <= 1, "sin(\(x))")
        #expect(distance(PortableMath.cos(x), cos(x)) <= 1, "cos(\(x))")
      }
    }
    // Multiples of π/2 as float32 has them: almost everything cancels.
    for n in 1..<20_000 {
      let x = Double(Float(Double(n) * .pi / 2))
      #expect(distance(PortableMath.sin(x), sin(x)) <= 1, "sin(\(x))")
      #expect(distance(PortableMath.cos(x), cos(x)) <= 1, "cos(\(x))")
    }
    #expect(PortableMath.sin(0) == 0)
    #expect(PortableMath.cos(0) == 1)
    #expect(PortableMath.sin(.infinity).isNaN)
    #expect(PortableMath.cos(1e300).isNaN)
  }

  @Test(arguments: [(64, 10_000.0), (80, 10_000_000.0), (128, 50_000_000.0)])
  func rotaryTable(headSize: Int, theta: Double) {
    let table = RotaryTable(headSize: headSize, theta: theta)
    var cosines = [Float](repeating: 0, count: headSize / 2)
    var sines = cosines
    for position in [0, 1, 2, 77, 511, 131_071] {
      table.fill(position: position, cosines: &cosines, sines: &sines)
      for j in 0..<headSize / 2 {
        let frequency = Float(pow(theta, -2 * Double(j) / Double(headSize)))
        #expect(table.inverseFrequencies[j] == frequency)
        let angle = Double(Float(position) * frequency)
        #expect(cosines[j] == Float(cos(angle)))
        #expect(sines[j] == Float(sin(angle)))
      }
    }
    let before = (0..<headSize).map { Float($0) - 7 }
    var head = before
    RotaryTable.rotate(before, size: headSize, cosines: cosines, sines: sines, output: &head)
    for j in 0..<headSize / 2 {
      let k = j + headSize / 2
      #expect(head[j] == before[j] * cosines[j] - before[k] * sines[j])
      #expect(head[k] == before[k] * cosines[j] + before[j] * sines[j])
    }
  }

  @Test func referenceExponential() {
    // Every 64th float32 from −87 to 88, near enough, and the ends.
    for magnitude in stride(from: Float(1e-6).bitPattern, through: Float(88).bitPattern, by: 4099) {
      for x in [Float(bitPattern: magnitude), -Float(bitPattern: magnitude)] where x >= -87 {
        let exact = exp(Double(x))
        #expect((Double(Reference.exp(x)) - exact).magnitude <= 2e-7 * exact, "exp(\(x))")
      }
    }
    #expect(Reference.exp(0) == 1)
    #expect(Reference.exp(-0.0) == 1)
    #expect(Reference.exp(-88) == 0)
    #expect(Reference.exp(-.infinity) == 0)
    #expect(Reference.exp(1000) == Reference.exp(88))
  }

  /// The values that `formats/numerics.md` prints.
  @Test func valuesOfTheSpecification() {
    let floats: [(x: Float, exp: UInt32, silu: UInt32)] = [
      (1, 0x402D_F854, 0x3F3B_26A8), (-1, 0x3EBC_5AB2, 0xBE89_B2B1),
      (-10, 0x383E_6BCE, 0xB9EE_03FC), (-87, 0x00B3_3687, 0x83F3_9E1F),
      (20.25, 0x4E14_86BB, 0x41A2_0000),
    ]
    for (x, exp, silu) in floats {
      #expect(Reference.exp(x).bitPattern == exp)
      #expect(Reference.silu(x).bitPattern == silu)
    }
    #expect(PortableMath.exp(1).bitPattern == 0x4005_BF0A_8B14_576A)
    #expect(PortableMath.exp(-0.7).bitPattern == 0x3FDF_C80D_B9DD_5542)
    #expect(PortableMath.log(10_000).bitPattern == 0x4022_6BB1_BBB5_5516)
    #expect(PortableMath.log(0.7).bitPattern == 0xBFD6_D3C3_24E1_3F50)
    #expect(PortableMath.sin(100_000).bitPattern == 0x3FA2_4DAA_9C52_7E96)
    #expect(PortableMath.cos(100_000).bitPattern == 0xBFEF_FAC3_841B_3DA7)
    let table = RotaryTable(headSize: 64, theta: 10_000)
    var (cosines, sines) = ([Float](repeating: 0, count: 32), [Float](repeating: 0, count: 32))
    table.fill(position: 4097, cosines: &cosines, sines: &sines)
    for (j, bits) in [
      1: (0x3F3F_F911, 0x3F7C_B0D3, 0xBE24_1DFC), 31: (0x390B_D472, 0x3F5A_BBEB, 0x3F05_0253),
    ] as [Int: (UInt32, UInt32, UInt32)] {
      #expect(table.inverseFrequencies[j].bitPattern == bits.0)
      #expect(cosines[j].bitPattern == bits.1)
      #expect(sines[j].bitPattern == bits.2)
    }
  }
}
