import CKernels

/// The inner loops, for one instruction set. All return the bits of ``Reference``.
///
/// None of them allocates or uses threads, but for ``multiply(_:pool:)`` and
/// ``stage(_:threadCount:)``.
public struct Kernels: @unchecked Sendable {  // the table is constant
  public let instructionSet: InstructionSet
  /// Nil for the scalar reference.
  let table: UnsafePointer<ck_kernels>?
  /// Columns of the tiles in which activations are laid out; see `ck_activations`.
  let tileColumns: Int

  /// - Precondition: the instruction set is supported.
  public init(_ instructionSet: InstructionSet) {
    precondition(instructionSet.isSupported)
    self.init(instructionSet, table: instructionSet.table)
  }

  /// - Parameter table: nil for the scalar reference.
  init(_ instructionSet: InstructionSet, table: UnsafePointer<ck_kernels>?) {
    self.instructionSet = instructionSet
    self.table = table
    // The reference reads one token after another.
    tileColumns = table.map { Int($0.pointee.tile_columns) } ?? .max
  }

  /// Tokens of a batch that are interleaved; see `ck_activations`.
  func tokenGroup(for tokenCount: Int) -> Int {
    guard let table = table?.pointee else { return 1 }
    return Int(
      ck_token_group(Int64(tokenCount), Int64(table.stream_tokens), Int64(table.token_group)))
  }

  /// The best kernels for this machine, or those that `QUARRY_ISA` names.
  /// - Throws: ``InstructionSetError``.
  public static func selected() throws(InstructionSetError) -> Kernels {
    Kernels(try InstructionSet.selected())
  }

  /// See ``Reference/rmsNorm(_:weight:count:epsilon:output:)``.
  public func rmsNorm(
    _ input: UnsafePointer<Float>, weight: UnsafePointer<Float>, count: Int, epsilon: Float,
    output: UnsafeMutablePointer<Float>
  ) {
    if let table {
      table.pointee.rms_norm(input, weight, Int64(count), epsilon, output)
    } else {
      Reference.rmsNorm(input, weight: weight, count: count, epsilon: epsilon, output: output)
    }
  }

  /// See ``Reference/gatedSilu(gate:up:count:output:)``; `output` may be one of the inputs.
  public func gatedSilu(
    gate: UnsafePointer<Float>, up: UnsafePointer<Float>, count: Int,
    output: UnsafeMutablePointer<Float>
  ) {
    if let table {
      table.pointee.gated_silu(gate, up, Int64(count), output)
    } else {
      Reference.gatedSilu(gate: gate, up: up, count: count, output: output)
    }
  }

  /// See ``Reference/layerNorm(_:weight:bias:count:epsilon:output:)``.
  public func layerNorm(
    _ input: UnsafePointer<Float>, weight: UnsafePointer<Float>, bias: UnsafePointer<Float>,
    count: Int, epsilon: Float, output: UnsafeMutablePointer<Float>
  ) {
    if let table {
      table.pointee.layer_norm(input, weight, bias, Int64(count), epsilon, output)
    } else {
      Reference.layerNorm(
        input, weight: weight, bias: bias, count: count, epsilon: epsilon, output: output)
    }
  }

  /// See ``Reference/gelu(_:count:output:)``; `output` may be `input`.
  public func gelu(
    _ input: UnsafePointer<Float>, count: Int, output: UnsafeMutablePointer<Float>
  ) {
    if let table {
      table.pointee.gelu(input, Int64(count), output)
    } else {
      Reference.gelu(input, count: count, output: output)
    }
  }

  /// See ``RotaryTable/rotate(_:size:cosines:sines:output:)``.
  public func rotate(
    _ head: UnsafePointer<Float>, size: Int, cosines: UnsafePointer<Float>,
    sines: UnsafePointer<Float>, output: UnsafeMutablePointer<Float>
  ) {
    if let table {
      table.pointee.rotate(head, cosines, sines, Int64(size), output)
    } else {
      RotaryTable.rotate(head, size: size, cosines: cosines, sines: sines, output: output)
    }
  }

  /// See ``Reference/mix(_:weights:count:output:)``.
  /// - Precondition: `count` is a multiple of 16; there is at least one row.
  public func mix(
    _ rows: UnsafeBufferPointer<UnsafePointer<Float>?>, weights: UnsafePointer<Float>, count: Int,
    output: UnsafeMutablePointer<Float>
  ) {
    if let table {
      table.pointee.mix(rows.baseAddress!, weights, Int64(rows.count), Int64(count), output)
    } else {
      Reference.mix(
        rows.map { $0! },
        weights: Array(UnsafeBufferPointer(start: weights, count: rows.count)), count: count,
        output: output)
    }
  }
}

/// Lets the workers of one parallel region write disjoint ranges.
public struct SharedPointer<Element>: @unchecked Sendable {  // disjointness is the region's duty
  public let pointer: UnsafeMutablePointer<Element>

  public init(_ pointer: UnsafeMutablePointer<Element>) { self.pointer = pointer }
}
