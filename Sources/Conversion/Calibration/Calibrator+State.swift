import ModelFiles
import TensorCore

/// What a journal keeps of a calibration: what it has seen, and what enters the next layer.
extension Calibrator {
  /// About as many bytes as ``appendState(to:)`` appends.
  var stateByteCount: Int {
    guard let run else { return 4 }
    return run.state.count + statistics.moments.reduce(64) { $0 + $1.value.count * 4 + 300 }
  }

  func appendState(to writer: inout ByteWriter) {
    // Statistics that were given will be given again, and have no text under way.
    let moments = run == nil ? [] : statistics.moments.sorted { $0.key < $1.key }
    writer.append(UInt32(moments.count))
    for (name, values) in moments {
      writer.append(name: name)
      writer.append(UInt32(values.count))
      values.withUnsafeBytes { writer.append($0) }
    }
    if let run { writer.append(run.state) }
  }

  /// Goes on where the calibrator was that wrote the state.
  ///
  /// - Throws: `SlabError` if the state is another calibration's.
  func restore(from reader: inout ByteReader) throws(SlabError) {
    var moments: [String: [Float]] = [:]
    for _ in 0..<(try reader.uint32()) {
      let name = try reader.name("name of an input")
      let bytes = try reader.bytes(4 * Int(try reader.uint32()))
      let values = bytes.withUnsafeBytes { bytes in
        (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
      }
      guard values.allSatisfy({ $0 >= 0 && $0.isFinite }) else {
        throw reader.malformed("the journal holds no mean squares")
      }
      moments[name] = values
    }
    guard let run else { return }
    let hidden = try reader.bytes(run.state.count)
    statistics.moments = moments
    let restored = Result { () throws(CalibrationError) in
      try hidden.withUnsafeBufferPointer { buffer throws(CalibrationError) in
        try run.restore(UnsafeRawBufferPointer(buffer))
      }
    }
    if case .failure(let error) = restored { throw reader.malformed("\(error)") }
  }
}
