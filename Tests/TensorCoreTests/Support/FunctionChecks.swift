import TensorCore
import TestSupport
import Testing

extension KernelChecks {
  func layerNorms() {
    var random = SplitMix64(seed: 510)
    for count in Array(1...33) + [2048, 4095] {
      for magnitude: Float in [1, 1e-30, 1e18] {
        let input = (0..<count).map { _ in (random.normal() + 0.5) * magnitude }
        let weight = GuardedMemory((0..<count).map { _ in random.normal() })
        let bias = GuardedMemory((0..<count).map { _ in random.normal() })
        var expected = input
        Reference.layerNorm(
          input, weight: weight.floats, bias: bias.floats, count: count, epsilon: 1e-5,
          output: &expected)
        let output = guardedFloats(count)
        let source = GuardedMemory(input)
        for place in [output.floats, source.floats] {
          kernels.layerNorm(
            source.floats, weight: weight.floats, bias: bias.floats, count: count, epsilon: 1e-5,
            output: place)
          #expect((0..<count).allSatisfy { same(place[$0], expected[$0]) }, "\(count)")
        }
      }
    }
  }

  func gelus() {
    var random = SplitMix64(seed: 610)
    let special: [Float] = [
      0, -0.0, .infinity, -.infinity, .nan, 5, -5, 20, -20, 1e30, -1e30, 0x1p-140,
    ]
    for count in Array(1...33) + [2048, 9999] {
      var input = (0..<count).map { _ in random.normal() * 4 }
      for index in input.indices where index % 3 == 1 {
        input[index] = special[Int(random.next() % UInt64(special.count))]
      }
      var expected = input
      Reference.gelu(input, count: count, output: &expected)
      let source = GuardedMemory(input)
      kernels.gelu(source.floats, count: count, output: source.floats)
      #expect((0..<count).allSatisfy { same(source.floats[$0], expected[$0]) }, "\(count)")
    }
  }
}
