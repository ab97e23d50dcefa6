public import ModelFiles
internal import Synchronization
public import TensorCore

/// A slab as a checkpoint in the published form, for other tools: weights dequantized with their column
/// scales, configuration and tokenizer as they came.
public enum CheckpointExport {
  /// Why there is no checkpoint, besides damage (`SlabError`) and the system's refusals (`FileError`).
  public enum Failure: Error, Equatable, CustomStringConvertible {
    case noConfiguration(path: String)
    /// A value that is not finite, or is not as the type that is written.
    case nonFinite(path: String, tensor: String, row: Int, column: Int, type: ElementType)

    public var description: String {
      switch self {
      case .noConfiguration(let path):
        "\(path): the slab holds no config.json, without which no tool can load its weights."
      case .nonFinite(let path, let tensor, let row, let column, let type):
        "\(path), \(tensor): the value in row \(row), column \(column) is not finite as "
          + "\(type.rawValue)."
      }
    }
  }

  /// Element types that weights are written in.
  public static let elementTypes = [ElementType.bf16, .f32]

  /// Writes the directory, which appears when it is complete. Holds one tensor of the slab in memory,
  /// and checks every digest.
  ///
  /// - Parameters:
  ///   - directory: must not exist.
  ///   - type: of all tensors, one of ``elementTypes``. bf16 rounds what is not bf16 already.
  ///   - maximumShardByteCount: bytes of weights in a file; a larger tensor has one of its own.
  ///   - progress: called with the elements that are written, and those of all tensors.
  ///   - isCancelled: asked now and then; once true, nothing is left and `CancellationError` thrown.
  /// - Returns: the bytes of weights.
  /// - Throws: ``Failure``, `SlabError`, `FileError`, `CancellationError`.
  @discardableResult
  public static func write(
    _ slab: Slab, to directory: String, as type: ElementType = .bf16,
    maximumShardByteCount: Int = 5_000_000_000, pool: WorkerPool,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in },
    isCancelled: () -> Bool = { false }
  ) throws -> Int {
    precondition(elementTypes.contains(type))
    guard slab.asset(named: "config.json") != nil else {
      throw Failure.noConfiguration(path: slab.path)
    }
    let scales = Set(slab.tensors.compactMap(\.columnScales))
    let tensors = slab.tensorsInFileOrder.filter { !scales.contains($0.name) }
    let total = tensors.reduce(0) { $0 + $1.elementCount }
    let writer = try CheckpointWriter(
      directory: directory, tensors: tensors.map { ($0.name, $0.shape) },
      dataType: type == .f32 ? .f32 : .bf16, assets: slab.assets,
      maximumShardByteCount: maximumShardByteCount)
    defer { writer.close() }
    var done = 0
    for tensor in tensors {
      let values = try slab.checkedRows(of: tensor, pool: pool)
      let rowCount = max(1, pieceElementCount / values.columns)
      for first in stride(from: 0, to: values.rows, by: rowCount) {
        if isCancelled() { throw CancellationError() }
        let rows = first..<min(first + rowCount, values.rows)
        let bytes = encoded(values, rows, as: type, pool: pool)
        if let (row, column) = bytes.fault {
          throw Failure.nonFinite(
            path: slab.path, tensor: tensor.name, row: row, column: column, type: type)
        }
        try writer.append(bytes: bytes.buffer.bytes)
        done += rows.count * values.columns
        progress(done, total)
      }
    }
    try writer.finish()
    return total * type.byteCount
  }

  /// Elements that are dequantized at a time: 16 MiB of float32.
  private static let pieceElementCount = 4 << 20

  /// Rows as they stand in the file, and the first place of a value that is not finite.
  private static func encoded(
    _ values: TensorRows, _ rows: Range<Int>, as type: ElementType, pool: WorkerPool
  ) -> (buffer: AlignedBuffer, fault: (row: Int, column: Int)?) {
    let columns = values.columns
    let buffer = AlignedBuffer(byteCount: rows.count * columns * type.byteCount)
    let fault = Mutex<(row: Int, column: Int)?>(nil)
    pool.parallelRanges(rows.count, minimum: 1) { range in
      let scratch = AlignedBuffer(byteCount: columns * 4)
      for row in range {
        let bytes = buffer.base + row * columns * type.byteCount
        values.copyRow(rows.lowerBound + row, into: scratch.floats)
        guard let column = encode(scratch.floats, columns, as: type, into: bytes) else { continue }
        let place = (row: rows.lowerBound + row, column: column)
        fault.withLock { if $0 == nil || place.row < $0!.row { $0 = place } }
      }
    }
    return (buffer, fault.withLock { $0 })
  }

  /// - Returns: the first column whose value is not finite.
  private static func encode(
    _ row: UnsafePointer<Float>, _ columns: Int, as type: ElementType,
    into destination: UnsafeMutableRawPointer
  ) -> Int? {
    var exponents: UInt32 = 0
    if type == .f32 {
      let elements = destination.assumingMemoryBound(to: Float.self)
      for column in 0..<columns {
        elements[column] = row[column]
        exponents = max(exponents, row[column].bitPattern & 0x7F80_0000)
      }
    } else {
      let elements = destination.assumingMemoryBound(to: UInt16.self)
      for column in 0..<columns {
        // Rounding makes no number of a NaN, but may make an infinity of one.
        let bits = row[column].isNaN ? 0x7FC0 : row[column].bfloat16Bits
        elements[column] = bits
        exponents = max(exponents, UInt32(bits & 0x7F80) << 16)
      }
    }
    guard exponents == 0x7F80_0000 else { return nil }
    return (0..<columns).first { column in
      let value = row[column]
      return !value.isFinite
        || type == .bf16 && !Float(bfloat16Bits: value.bfloat16Bits).isFinite
    }
  }
}
