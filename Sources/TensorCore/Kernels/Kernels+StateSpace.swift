import CKernels

extension Kernels {
  /// See ``Reference/convolve(_:weights:weightStride:bias:count:output:)``.
  public func convolve(
    _ rows: [UnsafePointer<Float>], weights: UnsafePointer<Float>, weightStride: Int,
    bias: UnsafePointer<Float>, count: Int, output: UnsafeMutablePointer<Float>
  ) {
    guard let table else {
      Reference.convolve(
        rows, weights: weights, weightStride: weightStride, bias: bias, count: count,
        output: output)
      return
    }
    rows.withUnsafeBufferPointer { rows in
      rows.withMemoryRebound(to: UnsafePointer<Float>?.self) { rows in
        table.pointee.convolve(
          rows.baseAddress, Int64(rows.count), weights, Int64(weightStride), bias, Int64(count),
          output)
      }
    }
  }

  /// See ``Reference/timeSteps(_:stride:bias:rate:count:steps:decays:)``.
  public func timeSteps(
    _ raw: UnsafePointer<Float>, stride: Int, bias: Float, rate: Float, count: Int,
    steps: UnsafeMutablePointer<Float>, decays: UnsafeMutablePointer<Float>
  ) {
    if let table {
      table.pointee.time_steps(raw, Int64(stride), bias, rate, Int64(count), steps, decays)
    } else {
      Reference.timeSteps(
        raw, stride: stride, bias: bias, rate: rate, count: count, steps: steps, decays: decays)
    }
  }

  /// See ``Reference/scan(_:)``.
  public func scan(_ head: StateSpaceScan) {
    guard let table else { return Reference.scan(head) }
    var scan = ck_scan(
      state: head.state, inputs: head.inputs, written: head.written, read: head.read,
      stride: Int64(head.stride), steps: head.steps, decays: head.decays, skip: head.skip,
      outputs: head.outputs, output_stride: Int64(head.outputStride),
      tokens: Int64(head.tokenCount),
      head_size: Int64(head.headSize), state_size: Int64(head.stateSize))
    table.pointee.scan(&scan)
  }
}
