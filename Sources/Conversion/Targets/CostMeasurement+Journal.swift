public import ModelFiles
import TensorCore

/// What a measurement has found and must know to go on, as its journal keeps it.
extension CostMeasurement {
  /// Opens the journal of the measurement for the slab that `output` will be. Measuring goes on behind
  /// what an interrupted run recorded there, if all that decides the outcome is as it was.
  ///
  /// - Throws: ``ConversionError``.
  public func journal(
    for output: String, restarting: Bool
  ) throws(ConversionError) -> PassJournal {
    let prepared = try prepare()
    do throws(SlabError) {
      return try PassJournal(
        path: output + ".costs",
        fingerprint: Fingerprint(
          [
            .init("program", Converter.program), .init("calibration", prepared.fingerprint),
            .init("encodings", EncodingCosts.candidates.map(\.name).joined(separator: " ")),
          ] + checkpoint.fingerprint), inputs: checkpoint.files, restarting: restarting)
    } catch {
      throw .output(error)
    }
  }
}

extension MeasurementState {
  /// - Parameter isComplete: whether there is no step left, for which a calibration would be needed.
  func encoded(isComplete: Bool) -> [UInt8] {
    var writer = ByteWriter(capacity: isComplete ? 0 : calibrator?.stateByteCount ?? 0)
    writer.append(UInt32(stepCount))
    writer.append(UInt32(sourceDigests.count))
    for digest in sourceDigests { writer.append(digest) }
    writer.append(UInt32(groups.count))
    for group in groups {
      for matrix in group {
        for encoding in EncodingCosts.candidates {
          writer.append(matrix.costs[encoding]!.bitPattern)
          let error = sizes.weightedErrors[matrix.entry.tensor.name]?[encoding]
          writer.append((error ?? .nan).bitPattern)
        }
      }
    }
    sizes.append(to: &writer)
    if !isComplete { calibrator?.appendState(to: &writer) }
    return writer.bytes
  }

  /// Takes over what an interrupted measurement recorded.
  ///
  /// - Throws: ``SlabError`` if it is not of this plan.
  mutating func restore(
    _ payload: [UInt8], plan: ConversionPlan, path: String
  ) throws(SlabError) {
    var reader = ByteReader(payload, path: path, document: "journal")
    do throws(SlabError) {
      stepCount = Int(try reader.uint32())
      let steps = plan.steps.prefix(stepCount)
      guard steps.count == stepCount,
        try reader.uint32() == steps.reduce(0, { $0 + $1.entries.count })
      else { throw reader.malformed("the journal is of another plan") }
      for _ in steps.flatMap(\.entries) { sourceDigests.append(try reader.digest()) }
      let entries = steps.flatMap { matrixGroups($0) }
      guard try reader.uint32() == entries.count else {
        throw reader.malformed("the journal is of another plan")
      }
      for entries in entries {
        var group: [EncodingCosts.Matrix] = []
        for entry in entries { group.append(try matrix(entry, &reader)) }
        groups.append(group)
      }
      try sizes.restore(from: &reader)
      if steps.count < plan.steps.count { try calibrator?.restore(from: &reader) }
      guard reader.remaining == 0 else { throw reader.malformed("the journal is too long") }
    } catch {
      throw SlabError(.journalDamaged, path: path, error.message)
    }
  }

  private mutating func matrix(
    _ entry: ConversionPlan.Entry, _ reader: inout ByteReader
  ) throws(SlabError) -> EncodingCosts.Matrix {
    var costs: [BlockEncoding: Double] = [:]
    for encoding in EncodingCosts.candidates {
      let cost = Double(bitPattern: try reader.uint64())
      guard cost.isFinite, cost >= 0 else { throw reader.malformed("the journal holds no costs") }
      costs[encoding] = cost
      let error = Double(bitPattern: try reader.uint64())
      if !error.isNaN { sizes.weightedErrors[entry.tensor.name, default: [:]][encoding] = error }
    }
    return EncodingCosts.Matrix(entry, costs: costs)
  }
}
