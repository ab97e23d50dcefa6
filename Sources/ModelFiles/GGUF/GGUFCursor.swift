/// Reads little-endian numbers and strings of a GGUF file front to back, never beyond its end.
struct GGUFCursor {
  let bytes: UnsafeRawBufferPointer
  let path: String
  private(set) var offset: Int
  /// What is being read, for errors.
  var name: String?

  init(_ bytes: UnsafeRawBufferPointer, path: String, offset: Int = 0) {
    self.bytes = bytes
    self.path = path
    self.offset = offset
  }

  var remaining: Int { bytes.count - offset }

  func error(
    _ reason: GGUFError.Reason, at start: Int, expected: String? = nil, found: String? = nil
  ) -> GGUFError {
    GGUFError(
      reason, path: path, offset: start, name: name, expected: expected, found: found)
  }

  mutating func integer<T: FixedWidthInteger>(_ type: T.Type) throws(GGUFError) -> T {
    let size = MemoryLayout<T>.size
    try require(size)
    defer { offset += size }
    return T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
  }

  /// A 64-bit count of things that take at least `minimumByteCount` bytes each.
  mutating func count(_ what: String, minimumByteCount: Int) throws(GGUFError) -> Int {
    let start = offset
    let value = try integer(UInt64.self)
    let limit = remaining / minimumByteCount
    guard value <= UInt64(limit) else {
      throw error(
        .count, at: start, expected: "at most \(limit) \(what) in what is left of the file",
        found: "\(value)")
    }
    return Int(value)
  }

  /// Where a string with its 64-bit length in front lies.
  mutating func string() throws(GGUFError) -> Range<Int> {
    let byteCount = try count("bytes", minimumByteCount: 1)
    defer { offset += byteCount }
    return offset..<offset + byteCount
  }

  /// A metadata key or the name of a tensor.
  mutating func name(limit: Int) throws(GGUFError) -> String {
    let start = offset
    let range = try string()
    guard (1...limit).contains(range.count) else {
      throw error(
        .name, at: start, expected: "1 to \(limit) bytes", found: "\(range.count)")
    }
    guard let text = String(validating: bytes[range], as: UTF8.self) else {
      throw error(.name, at: start, expected: "UTF-8", found: "other bytes")
    }
    return text
  }

  mutating func skip(_ byteCount: Int) throws(GGUFError) {
    try require(byteCount)
    offset += byteCount
  }

  private func require(_ byteCount: Int) throws(GGUFError) {
    guard byteCount <= remaining else {
      throw error(
        .truncated, at: offset, expected: "\(byteCount) more bytes", found: "\(remaining)")
    }
  }
}
