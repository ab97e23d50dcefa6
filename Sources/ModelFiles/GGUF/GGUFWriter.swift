/// A value of GGUF metadata, as it is written.
package enum GGUFMetadata: Sendable, Equatable {
  case uint32(UInt32)
  case float32(Float)
  case bool(Bool)
  case string(String)
  case int32s([Int32])
  case strings([String])
}

/// Writes a GGUF file (version 3, little-endian), front to back, with constant memory.
///
/// It is called `path.partial`, and locked against other writers, until it is whole and on the disk; a
/// writer that is not finished leaves nothing.
package final class GGUFWriter {
  package typealias Tensor = (name: String, type: GGUFType, shape: [Int])

  /// What tensors begin at multiples of; the format's default.
  private static let alignment = 32
  private let path: String
  private let descriptor: Int32
  private var offset = 0
  /// Bytes that the tensors still lack, each with its padding.
  private var missing: ArraySlice<(bytes: Int, padding: Int)>
  private var isFinished = false
  private var partialPath: String { path + ".partial" }

  /// - Parameters:
  ///   - tensors: names, each once, and row-major shapes, in the order in which the elements will come;
  ///     rows are whole blocks.
  /// - Throws: ``FileError``, also if the file exists or the disk lacks room.
  package init(
    path: String, metadata: [(key: String, value: GGUFMetadata)], tensors: [Tensor]
  ) throws(FileError) {
    try SystemCalls.checkName(ofOutput: path)
    try SystemCalls.checkMissing(path)
    var header = ByteWriter()
    header.append(raw: GGUFFile.magic)
    header.append(UInt32(3))
    header.append(UInt64(tensors.count))
    header.append(UInt64(metadata.count))
    for (key, value) in metadata {
      Self.append(key, to: &header)
      Self.append(value, to: &header)
    }
    var sizes: [(bytes: Int, padding: Int)] = []
    var end = 0
    for (name, type, shape) in tensors {
      precondition((shape.last ?? 1) % type.blockSize == 0, "\(name): rows are no whole blocks")
      let byteCount = shape.reduce(1, *) / type.blockSize * type.blockByteCount
      Self.append(name, to: &header)
      header.append(UInt32(shape.count))
      for dimension in shape.reversed() { header.append(UInt64(dimension)) }
      header.append(type.id)
      header.append(UInt64(end))
      sizes.append((byteCount, Self.padding(after: byteCount)))
      end += byteCount + Self.padding(after: byteCount)
    }
    let zeros = [UInt8](repeating: 0, count: Self.padding(after: header.bytes.count))
    header.append(raw: zeros)
    try SystemCalls.checkSpace(for: header.bytes.count + end, path)

    self.path = path
    missing = sizes[...]
    guard let descriptor = try SystemCalls.createExclusively(path + ".partial") else {
      throw FileError(path: path, reason: "another process is writing this file")
    }
    self.descriptor = descriptor
    try write(header.bytes)
  }

  deinit { close() }

  /// Writes the next elements; calls do not cross the end of a tensor.
  package func append(bytes: UnsafeRawBufferPointer) throws(FileError) {
    precondition(bytes.count <= missing.first?.bytes ?? 0, "more than the tensor holds")
    try SystemCalls.write(descriptor, bytes, at: offset, partialPath)
    offset += bytes.count
    missing[missing.startIndex].bytes -= bytes.count
    if missing[missing.startIndex].bytes == 0 {
      try write([UInt8](repeating: 0, count: missing.removeFirst().padding))
    }
  }

  /// Gives the file its name once everything is on the disk.
  /// - Precondition: all elements have been written.
  package func finish() throws(FileError) {
    precondition(missing.isEmpty, "\(missing.count) tensors are not complete")
    try SystemCalls.synchronize(descriptor, partialPath)
    try SystemCalls.checkMissing(path)  // it may have come into being meanwhile
    try SystemCalls.rename(partialPath, to: path)
    isFinished = true
    SystemCalls.close(descriptor)
  }

  /// Gives up and removes what was written.
  package func close() {
    guard !isFinished else { return }
    isFinished = true
    SystemCalls.remove(partialPath)  // before the lock goes
    SystemCalls.close(descriptor)
  }

  private func write(_ bytes: [UInt8]) throws(FileError) {
    try bytes.withUnsafeBufferPointer { buffer throws(FileError) in
      try SystemCalls.write(descriptor, UnsafeRawBufferPointer(buffer), at: offset, partialPath)
    }
    offset += bytes.count
  }

  private static func padding(after byteCount: Int) -> Int {
    (alignment - byteCount % alignment) % alignment
  }

  private static func append(_ text: String, to writer: inout ByteWriter) {
    writer.append(UInt64(text.utf8.count))
    writer.append(raw: text.utf8)
  }

  private static func append(_ value: GGUFMetadata, to writer: inout ByteWriter) {
    func begin(_ type: GGUFValueType) { writer.append(type.rawValue) }
    switch value {
    case .uint32(let value):
      begin(.uint32)
      writer.append(value)
    case .float32(let value):
      begin(.float32)
      writer.append(value.bitPattern)
    case .bool(let value):
      begin(.bool)
      writer.append(UInt8(value ? 1 : 0))
    case .string(let value):
      begin(.string)
      append(value, to: &writer)
    case .int32s(let values):
      begin(.array)
      begin(.int32)
      writer.append(UInt64(values.count))
      for value in values { writer.append(UInt32(bitPattern: value)) }
    case .strings(let values):
      begin(.array)
      begin(.string)
      writer.append(UInt64(values.count))
      for value in values { append(value, to: &writer) }
    }
  }
}
