import CKernels
import Synchronization

/// An activation was infinite or not a number, so the product would be meaningless.
public struct NonFiniteActivation: Error, Equatable, CustomStringConvertible {
  /// Row of the batch, from 0: the first that has one.
  public let token: Int

  public var description: String { "a non-finite activation at token \(token) of the batch" }
}

/// The lowest of the indices that threads note.
public final class LowestIndex: Sendable {
  private let lowest = Atomic(Int.max)

  public init() {}

  public func note(_ index: Int) { lowest.min(index, ordering: .relaxed) }

  /// Nil where none was noted. Called when the threads are done.
  public var value: Int? {
    let lowest = lowest.load(ordering: .relaxed)
    return lowest == .max ? nil : lowest
  }
}

/// The entering of a batch into its ``Activations``: every token once, whole or in parts, by any thread; then
/// comes ``finish()``.
public final class ActivationEntry: @unchecked Sendable {  // threads write different places
  private let columns: Int
  private let paddedColumns: Int
  /// Nil where values are entered as they are.
  private let groupSize: Int?
  private let columnScales: UnsafePointer<Float>?
  private let kernels: Kernels
  private let codes: UnsafeMutablePointer<Int8>
  private let scales: UnsafeMutablePointer<Float>
  private let starts: UnsafeMutablePointer<Int32>
  private let values: UnsafeMutablePointer<Float>?
  private let bad = LowestIndex()

  /// - Parameters:
  ///   - codes: and the others: of the batch's first row; see `ck_activations`.
  init(
    weights: WeightMatrix, isQuantized: Bool, kernels: Kernels, codes: UnsafeMutablePointer<Int8>,
    scales: UnsafeMutablePointer<Float>, starts: UnsafeMutablePointer<Int32>,
    values: UnsafeMutablePointer<Float>?
  ) {
    columns = weights.geometry.columns
    paddedColumns = weights.geometry.paddedColumns
    groupSize = isQuantized ? weights.encoding.blockSize : nil
    columnScales = weights.columnScales?.pointer
    self.kernels = kernels
    (self.codes, self.scales, self.starts, self.values) = (codes, scales, starts, values)
  }

  /// Enters some columns of a token, which were not entered before.
  ///
  /// - Parameters:
  ///   - row: the token's first column, whichever are entered.
  ///   - range: whole blocks; those that end with the last column, or after it, end with the padding.
  ///     Nil for all columns.
  ///   - batch: the rows of the token's batch.
  public func enter(
    _ row: UnsafePointer<Float>, columns range: Range<Int>? = nil, token: Int,
    of batch: Range<Int>
  ) {
    let isLast = range.map { $0.upperBound >= columns } ?? true
    let range = (range?.lowerBound ?? 0)..<(isLast ? paddedColumns : range!.upperBound)
    let isFinite =
      groupSize.map { quantize(row, columns: range, token: token, of: batch, groupSize: $0) }
      ?? copy(row, columns: range, token: token, of: batch)
    if !isFinite { bad.note(token) }
  }

  /// Called when all tokens are entered.
  ///
  /// - Throws: ``NonFiniteActivation``.
  public func finish() throws(NonFiniteActivation) {
    if let token = bad.value { throw NonFiniteActivation(token: token) }
  }

  /// False when a value is not finite.
  private func quantize(
    _ row: UnsafePointer<Float>, columns range: Range<Int>, token: Int, of batch: Range<Int>,
    groupSize: Int
  ) -> Bool {
    let (first, place) = (batch.lowerBound * paddedColumns, token - batch.lowerBound)
    let (codes, scales) = (codes + first, scales + first / groupSize)
    if let table = kernels.table {
      return table.pointee.quantize(
        row, columnScales, Int64(columns), Int64(paddedColumns), Int64(range.lowerBound),
        Int64(range.upperBound), Int32(groupSize), Int64(place), Int64(batch.count), codes, scales,
        starts + first / groupSize)
    }
    let start = place * paddedColumns + range.lowerBound
    return Reference.quantizeActivations(
      row + range.lowerBound, columnScales: columnScales.map { $0 + range.lowerBound },
      columns: columns - range.lowerBound, paddedColumns: range.count, groupSize: groupSize,
      codes: codes + start, scales: scales + start / groupSize)
  }

  /// Copies values to their places, zeros for padding; false when one is not finite.
  private func copy(
    _ row: UnsafePointer<Float>, columns range: Range<Int>, token: Int, of batch: Range<Int>
  ) -> Bool {
    let tileColumns = min(kernels.tileColumns, paddedColumns)
    let tokenGroup = kernels.tokenGroup(for: batch.count)
    let place = token - batch.lowerBound
    let first = place / tokenGroup * tokenGroup
    let width = min(tokenGroup, batch.count - first)
    let batchValues = self.values! + batch.lowerBound * paddedColumns
    var allFinite = true
    var column = range.lowerBound
    while column < range.upperBound {
      let tile = column / tileColumns * tileColumns
      let count = min(tileColumns, paddedColumns - tile)
      let values = batchValues + tile * batch.count + first * count + place - first
      let end = min(range.upperBound, tile + count)
      let usedEnd = max(column, min(end, columns))
      for index in column..<usedEnd {
        let value = row[index]
        allFinite = allFinite && value.isFinite
        values[(index &- tile) &* width] = value
      }
      for index in usedEnd..<end { values[(index &- tile) &* width] = 0 }
      column = end
    }
    return allFinite
  }
}
