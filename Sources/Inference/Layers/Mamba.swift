import ModelFiles
import TensorCore

/// A Mamba2 layer: in place of keys and values of all positions it keeps, for each head, a state that
/// every token decays and adds to.
///
///     gate | x, B, C | dt = input(token)
///     x, B, C             = silu(convolution over the last tokens)
///     y                   = scan of x by B, C and dt
///     result              = output(norm(silu(gate) · y))
struct Mamba: Sendable {
  let shape: MambaShape
  let input: Linear
  let convolution: Convolution
  let heads: StateSpaceHeads
  /// Over each group of heads by itself.
  let norm: Norm
  let output: Linear

  /// Adds the layer's steps.
  ///
  /// - Parameters:
  ///   - place: of the layer in the sequences' states, which take in their tokens.
  ///   - prepare: computes a row of the input.
  ///   - finish: what is done with results.
  /// - Throws: ``PassFailure`` of earlier steps.
  func add(
    to steps: inout Steps, of input: Rows, place: Int, context: PassContext, workspace: Workspace,
    into result: Rows, preparing prepare: @escaping (_ token: Int) -> Void,
    finishing finish: RowFinish?
  ) throws(PassFailure) {
    try steps.add(
      [(self.input, workspace.projected)], of: input, .mamba, activations: workspace.activations,
      preparing: prepare)
    addConvolution(of: context.parts, place: place, workspace: workspace, to: &steps)
    addScan(of: context.parts, place: place, workspace: workspace, to: &steps)
    let kernels = steps.compute.kernels
    let (scanned, projected) = (workspace.scanned, workspace.projected)
    try steps.add(
      [(output, result)], of: scanned, .mambaOutput, activations: workspace.activations,
      preparing: { gate(scanned[$0], by: projected[$0], kernels: kernels) }, finishing: finish)
  }

  /// Channels that one thread takes through all tokens of a segment: a few pages of the projection, or
  /// more where there are many segments, whose rows are then read in long stretches.
  private static let channelsPerPiece = 512

  private func addConvolution(
    of parts: SharedList<PassContext.Part>, place: Int, workspace: Workspace,
    to steps: inout Steps
  ) {
    let (channels, compute) = (shape.channelCount, steps.compute)
    let share = channels * parts.count / (4 * compute.pool.threadCount)
    let width = min(channels, max(Self.channelsPerPiece, share))
    let pieces = (channels - 1) / width + 1
    let input = Rows(
      workspace.projected.pointer + shape.innerSize, stride: workspace.projected.stride)
    // As little as possible that has references; see `addScan`.
    let (convolution, kernels, output) = (convolution, compute.kernels, workspace.convolved)
    steps.add(
      LoopStage(count: parts.count * pieces) { index in
        let part = parts[index / pieces]
        let first = index % pieces * width
        convolution.apply(
          to: input, rows: part.rows,
          channels: first..<min(first + width, channels),
          window: part.state!.window(place), kernels: kernels, into: output)
      })
  }

  /// Heads that a thread takes through one token: states that follow each other in memory are read in
  /// long stretches. More tokens keep a thread busy with fewer.
  private static let headsPerPiece = 8

  private func addScan(
    of parts: SharedList<PassContext.Part>, place: Int, workspace: Workspace,
    to steps: inout Steps
  ) {
    // Nothing that has references: of one token a head takes a microsecond or two, and threads that
    // count the same references wait for each other.
    let (shape, kernels, parameters) = (shape, steps.compute.kernels, heads.parameters)
    let (projected, convolved, scanned) =
      (workspace.projected, workspace.convolved, workspace.scanned)
    let headsPerGroup = shape.headCount / shape.groupCount
    let longest = (0..<parts.count).map { parts[$0].rows.count }.max() ?? 1
    let width = max(1, Self.headsPerPiece / longest)
    let pieces = (shape.headCount - 1) / width + 1
    steps.add(
      LoopStage(count: parts.count * pieces) { index in
        let (part, piece) = (parts[index / pieces], index % pieces)
        let (first, states) = (convolved[part.rows.lowerBound], part.state!.heads(place))
        for head in piece * width..<min((piece + 1) * width, shape.headCount) {
          let written = first + shape.innerSize + head / headsPerGroup * shape.stateSize
          parameters.withSteps(
            of: head, in: part.rows, projected: projected,
            column: shape.projectionSize - shape.headCount, kernels: kernels
          ) { steps, decays in
            kernels.scan(
              StateSpaceScan(
                state: states[head], stateSize: shape.stateSize, headSize: shape.headSize,
                inputs: first + head * shape.headSize, written: written,
                read: written + shape.groupCount * shape.stateSize, stride: convolved.stride,
                steps: steps, decays: decays, skip: parameters.skips[head],
                outputs: scanned[part.rows.lowerBound] + head * shape.headSize,
                outputStride: scanned.stride, tokenCount: part.rows.count))
          }
        }
      })
  }

  /// The results of a token's heads, by their gate and normalized.
  private func gate(
    _ row: UnsafeMutablePointer<Float>, by gate: UnsafePointer<Float>, kernels: Kernels
  ) {
    kernels.gatedSilu(gate: gate, up: row, count: shape.innerSize, output: row)
    let width = shape.innerSize / shape.groupCount
    for group in 0..<shape.groupCount {
      kernels.rmsNorm(
        row + group * width, weight: norm.weight.floats + group * width, count: width,
        epsilon: norm.epsilon, output: row + group * width)
    }
  }
}

/// A causal convolution over tokens, of every channel by itself.
struct Convolution: Sendable {
  /// Tap after tap, the oldest first.
  private let weights: AlignedBuffer
  private let bias: AlignedBuffer
  private let channelCount: Int
  private let size: Int

  /// - Parameter weights: as published, `[channelCount, 1, convolutionSize]`.
  init(_ shape: MambaShape, weights: [Float], bias: [Float]?) {
    channelCount = shape.channelCount
    size = shape.convolutionSize
    self.weights = AlignedBuffer(byteCount: weights.count * 4)
    self.bias = AlignedBuffer(byteCount: channelCount * 4)
    for channel in 0..<channelCount {
      for tap in 0..<size {
        self.weights.floats[tap * channelCount + channel] = weights[channel * size + tap]
      }
      self.bias.floats[channel] = bias?[channel] ?? 0
    }
  }

  /// Some channels of consecutive rows, which follow those in `window`: the last inputs before them,
  /// oldest first, in whose place the last of all remain.
  func apply(
    to input: Rows, rows: Range<Int>, channels: Range<Int>, window: Rows, kernels: Kernels,
    into output: Rows
  ) {
    let kept = size - 1
    /// The input `distance` rows after the oldest in the window, from the first channel on.
    func row(_ distance: Int) -> UnsafeMutablePointer<Float> {
      (distance < kept ? window[distance] : input[rows.lowerBound + distance - kept])
        + channels.lowerBound
    }
    var taps = (0..<kept).map { UnsafePointer(row($0)) }
    for index in 0..<rows.count {
      taps.append(UnsafePointer(row(index + kept)))
      kernels.convolve(
        taps, weights: weights.floats + channels.lowerBound, weightStride: channelCount,
        bias: bias.floats + channels.lowerBound, count: channels.count,
        output: output[rows.lowerBound + index] + channels.lowerBound)
      taps.removeFirst()
    }
    for index in 0..<kept {
      (window[index] + channels.lowerBound).update(
        from: row(index + rows.count), count: channels.count)
    }
  }
}

/// What the heads of a Mamba2 layer have of their own.
struct StateSpaceHeads: Sendable {
  private let skips: AlignedBuffer
  private let stepBiases: AlignedBuffer
  private let rates: AlignedBuffer

  init(skips: [Float], stepBiases: [Float], rateLogarithms: [Float]) {
    self.skips = AlignedBuffer(skips)
    self.stepBiases = AlignedBuffer(stepBiases)
    rates = AlignedBuffer(rateLogarithms.map { -Float(PortableMath.exp(Double($0))) })
  }

  /// Valid as long as the heads.
  var parameters: Parameters {
    Parameters(skips: skips.floats, stepBiases: stepBiases.floats, rates: rates.floats)
  }

  /// A value for each head.
  struct Parameters {
    /// The weights of a head's input in its output, D.
    let skips: UnsafePointer<Float>
    let stepBiases: UnsafePointer<Float>
    /// −e^A_log: how fast a state decays.
    let rates: UnsafePointer<Float>

    /// Calls `body` with the time steps of a head, and what a state keeps over each.
    ///
    /// - Parameter column: of the first head's raw time step.
    func withSteps(
      of head: Int, in rows: Range<Int>, projected: Rows, column: Int, kernels: Kernels,
      _ body: (_ steps: UnsafePointer<Float>, _ decays: UnsafePointer<Float>) -> Void
    ) {
      withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * rows.count) { values in
        let (steps, decays) = (values.baseAddress!, values.baseAddress! + rows.count)
        kernels.timeSteps(
          projected[rows.lowerBound] + column + head, stride: projected.stride,
          bias: stepBiases[head], rate: rates[head], count: rows.count, steps: steps,
          decays: decays)
        body(steps, decays)
      }
    }
  }
}
