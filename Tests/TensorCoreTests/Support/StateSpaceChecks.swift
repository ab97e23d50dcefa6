import TensorCore
import TestSupport
import Testing

extension KernelChecks {
  func convolutions() {
    var random = SplitMix64(seed: 700)
    let special: [Float] = [0, -0.0, .infinity, -.infinity, .nan, 1e30, -1e30, 0x1p-140]
    for count in Array(1...33) + [512, 1000] {
      for taps in 1...5 {
        let (stride, rowStride) = (count + 3, count + 5)
        let weights = GuardedMemory((0..<(taps - 1) * stride + count).map { _ in random.normal() })
        let bias = GuardedMemory((0..<count).map { _ in random.normal() })
        var values = (0..<(taps - 1) * rowStride + count).map { _ in random.normal() * 5 }
        values[Int(random.next() % UInt64(values.count))] =
          special[Int(random.next() % UInt64(special.count))]
        let input = GuardedMemory(values)
        let rows = (0..<taps).map { UnsafePointer(input.floats + $0 * rowStride) }
        var expected = [Float](repeating: 0, count: count)
        Reference.convolve(
          rows, weights: weights.floats, weightStride: stride, bias: bias.floats, count: count,
          output: &expected)
        let output = guardedFloats(count)
        kernels.convolve(
          rows, weights: weights.floats, weightStride: stride, bias: bias.floats, count: count,
          output: output.floats)
        #expect(
          (0..<count).allSatisfy { same(output.floats[$0], expected[$0]) }, "\(count), \(taps)")
      }
    }
  }

  func timeSteps() {
    var random = SplitMix64(seed: 750)
    // About where its parts begin and end, and where nothing is left in float32.
    let special: [Float] = [
      0, -0.0, .infinity, -.infinity, .nan, 20, Float(20).nextUp, -18, Float(-18).nextDown, -86,
      -87.4, -103.9, -104.1, -700, -701, -745.2, 709.8, 1e30, -1e30, 0x1p-140, -0x1p-140, 0.25,
      1, -1,
    ]
    for count in Array(1...33) + [512] {
      for rate: Float in [0, -0x1p-30, -1, -2.5, -100, -1e30] {
        let stride = 3
        var values = (0..<(count - 1) * stride + 1).map { _ in random.normal() * 9 }
        for index in 0..<count where random.next() % 3 == 0 {
          values[index * stride] = special[Int(random.next() % UInt64(special.count))]
        }
        let raw = GuardedMemory(values)
        for bias: Float in [0, 1.5, -6] {
          var (steps, decays) = (
            [Float](repeating: 0, count: count), [Float](repeating: 0, count: count)
          )
          Reference.timeSteps(
            raw.floats, stride: stride, bias: bias, rate: rate, count: count, steps: &steps,
            decays: &decays)
          let found = (steps: guardedFloats(count), decays: guardedFloats(count))
          kernels.timeSteps(
            raw.floats, stride: stride, bias: bias, rate: rate, count: count,
            steps: found.steps.floats, decays: found.decays.floats)
          #expect(
            (0..<count).allSatisfy {
              same(found.steps.floats[$0], steps[$0]) && same(found.decays.floats[$0], decays[$0])
            }, "\(count), \(rate), \(bias)")
        }
      }
    }
  }

  /// Heads and states of odd sizes, whose tokens come at once and one by one.
  func scans() {
    var random = SplitMix64(seed: 800)
    for (headSize, stateSize) in [(1, 1), (15, 7), (16, 8), (17, 9), (32, 16), (48, 33), (64, 128)]
    {
      for tokens in [1, 2, 5, 19] {
        let stride = headSize + 2 * stateSize + 1
        let inputs = GuardedMemory(
          (0..<(tokens - 1) * stride + headSize + 2 * stateSize).map { _ in random.normal() })
        let steps = GuardedMemory((0..<tokens).map { _ in abs(random.normal()) })
        let decays = GuardedMemory(
          (0..<tokens).map { _ in Float.random(in: 0...1, using: &random) })
        let state = (0..<stateSize * StateSpaceScan.padded(headSize)).map { _ in random.normal() }
        let outputStride = headSize + 5
        func run(
          _ start: [Float], _ cuts: [Range<Int>], _ scan: (StateSpaceScan) -> Void
        ) -> (state: GuardedMemory, outputs: GuardedMemory) {
          let state = GuardedMemory(start)
          let outputs = guardedFloats((tokens - 1) * outputStride + headSize)
          for cut in cuts {
            let first = inputs.floats + cut.lowerBound * stride
            scan(
              StateSpaceScan(
                state: state.floats, stateSize: stateSize, headSize: headSize, inputs: first,
                written: first + headSize, read: first + headSize + stateSize, stride: stride,
                steps: steps.floats + cut.lowerBound, decays: decays.floats + cut.lowerBound,
                skip: 0.7, outputs: outputs.floats + cut.lowerBound * outputStride,
                outputStride: outputStride, tokenCount: cut.count))
          }
          return (state, outputs)
        }
        let expected = run(state, [0..<tokens], Reference.scan)
        for cuts in [[0..<tokens], (0..<tokens).map { $0..<$0 + 1 }] {
          let found = run(state, cuts, kernels.scan)
          let places = (0..<tokens).flatMap { token in
            (0..<headSize).map { token * outputStride + $0 }
          }
          #expect(
            places.allSatisfy { same(found.outputs.floats[$0], expected.outputs.floats[$0]) },
            "\(headSize), \(stateSize), \(tokens), \(cuts.count)")
          let kept = (0..<stateSize).flatMap { element in
            (0..<headSize).map { element * StateSpaceScan.padded(headSize) + $0 }
          }
          #expect(kept.allSatisfy { same(found.state.floats[$0], expected.state.floats[$0]) })
        }
      }
    }
  }
}
