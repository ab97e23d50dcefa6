import ModelFiles
import Synchronization
import TensorCore

/// The weights of a slab on their way out: dequantized row by row with their column scales, every digest
/// checked, with progress and cancellation. Holds one tensor in memory.
final class SlabRows {
  /// Writes a row, and returns the first column whose value the written type cannot hold.
  typealias Encoder =
    @Sendable (
      _ row: UnsafePointer<Float>, _ columns: Int, _ destination: UnsafeMutableRawPointer
    ) -> Int?

  let slab: Slab
  let pool: WorkerPool
  /// All tensors but column scales, in the order of the file.
  let tensors: [SlabTensor]
  private let progress: (_ done: Int, _ total: Int) -> Void
  private let isCancelled: () -> Bool
  private let total: Int
  private var done = 0
  private var current: (name: String, values: TensorRows)?

  /// - Throws: ``ExportError/noConfiguration(path:)``: no tool could make anything of the weights.
  init(
    _ slab: Slab, pool: WorkerPool, progress: @escaping (_ done: Int, _ total: Int) -> Void,
    isCancelled: @escaping () -> Bool
  ) throws(ExportError) {
    guard slab.asset(named: "config.json") != nil else { throw .noConfiguration(path: slab.path) }
    self.slab = slab
    self.pool = pool
    self.progress = progress
    self.isCancelled = isCancelled
    let scales = Set(slab.tensors.compactMap(\.columnScales))
    tensors = slab.tensorsInFileOrder.filter { !scales.contains($0.name) }
    total = tensors.reduce(0) { $0 + $1.elementCount }
  }

  /// Encodes rows of a tensor with all threads, some at a time.
  ///
  /// - Parameters:
  ///   - rows: of what is written; all of the tensor if nil.
  ///   - source: the row of the tensor that becomes a row of what is written.
  ///   - type: how the element type is called in errors.
  ///   - body: takes encoded rows, in order.
  /// - Throws: ``ExportError/nonFinite(path:tensor:row:column:type:)``, `SlabError`,
  ///   `CancellationError`, and what `body` throws.
  func encode(
    _ tensor: SlabTensor, rows: Range<Int>? = nil,
    source: @Sendable (_ row: Int) -> Int = { $0 }, rowByteCount: Int, type: String,
    with encoder: Encoder, _ body: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    let values = try values(of: tensor)
    let rows = rows ?? 0..<values.rows
    let pieceRowCount = max(1, Self.pieceElementCount / max(1, values.columns))
    for first in stride(from: rows.lowerBound, to: rows.upperBound, by: pieceRowCount) {
      if isCancelled() { throw CancellationError() }
      let piece = first..<min(first + pieceRowCount, rows.upperBound)
      let buffer = AlignedBuffer(byteCount: piece.count * rowByteCount)
      let fault = Mutex<(row: Int, column: Int)?>(nil)
      pool.parallelRanges(piece.count, minimum: 1) { range in
        let scratch = AlignedBuffer(byteCount: values.columns * 4)
        for index in range {
          let row = source(piece.lowerBound + index)
          values.copyRow(row, into: scratch.floats)
          let destination = buffer.base + index * rowByteCount
          guard let column = encoder(scratch.floats, values.columns, destination) else { continue }
          fault.withLock { if $0 == nil || row < $0!.row { $0 = (row, column) } }
        }
      }
      if let (row, column) = fault.withLock({ $0 }) {
        throw ExportError.nonFinite(
          path: slab.path, tensor: tensor.name, row: row, column: column, type: type)
      }
      try body(buffer.bytes)
      done += piece.count * values.columns
      progress(done, total)
    }
  }

  /// Parts of one tensor come one after the other; it is decoded once.
  private func values(of tensor: SlabTensor) throws(SlabError) -> TensorRows {
    if let current, current.name.utf8.elementsEqual(tensor.name.utf8) { return current.values }
    current = nil
    let values = try slab.checkedRows(of: tensor, pool: pool)
    current = (tensor.name, values)
    return values
  }

  /// Elements that are dequantized at a time: 16 MiB of float32.
  private static let pieceElementCount = 4 << 20
}
