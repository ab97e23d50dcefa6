/// Reads little-endian numbers and strings out of bytes in memory, never beyond their end.
package struct ByteReader {
  let bytes: [UInt8]
  /// What the bytes belong to and where they begin in that file, for errors.
  let path: String
  let fileOffset: Int
  /// What errors call the bytes.
  let document: String
  private(set) var position = 0
  /// The record that is being read, for errors.
  var name: String?

  package init(_ bytes: [UInt8], path: String, fileOffset: Int = 0, document: String = "index") {
    self.bytes = bytes
    self.path = path
    self.fileOffset = fileOffset
    self.document = document
  }

  package var remaining: Int { bytes.count - position }

  /// An error at the bytes read last.
  package func malformed(
    _ message: String, expected: String? = nil, found: String? = nil, from start: Int? = nil
  ) -> SlabError {
    fault(.malformed, message, expected: expected, found: found, from: start)
  }

  func fault(
    _ reason: SlabError.Reason, _ message: String, expected: String? = nil, found: String? = nil,
    from start: Int? = nil
  ) -> SlabError {
    let start = start ?? position
    return SlabError(
      reason, path: path, name: name,
      byteRange: fileOffset + start..<fileOffset + max(start, position), expected: expected,
      found: found, message)
  }

  private mutating func integer<T: FixedWidthInteger>(_ type: T.Type) throws(SlabError) -> T {
    let size = MemoryLayout<T>.size
    guard remaining >= size else {
      throw malformed("the \(document) ends in the middle of a record")
    }
    defer { position += size }
    return bytes.withUnsafeBytes {
      T(littleEndian: $0.loadUnaligned(fromByteOffset: position, as: T.self))
    }
  }

  mutating func uint8() throws(SlabError) -> UInt8 { try integer(UInt8.self) }
  mutating func uint16() throws(SlabError) -> UInt16 { try integer(UInt16.self) }
  package mutating func uint32() throws(SlabError) -> UInt32 { try integer(UInt32.self) }
  package mutating func uint64() throws(SlabError) -> UInt64 { try integer(UInt64.self) }

  /// A 64-bit number that must not exceed `limit`.
  package mutating func count(_ what: String, limit: Int) throws(SlabError) -> Int {
    let start = position
    let value = try uint64()
    guard value <= UInt64(limit) else {
      throw malformed(what, expected: "at most \(limit)", found: "\(value)", from: start)
    }
    return Int(value)
  }

  /// A 32-bit count of records of at least `minimumByteCount` bytes each.
  mutating func recordCount(
    _ what: String, limit: Int, minimumByteCount: Int
  ) throws(SlabError) -> Int {
    let start = position
    let value = Int(try uint32())
    guard value <= limit else {
      throw malformed(
        "too many \(what)", expected: "at most \(limit)", found: "\(value)", from: start)
    }
    guard value <= remaining / minimumByteCount else {
      throw malformed(
        "the \(document) is too short for its \(what)", found: "\(value) of them", from: start)
    }
    return value
  }

  package mutating func digest() throws(SlabError) -> Digest {
    guard remaining >= Digest.byteCount else {
      throw malformed("the \(document) ends in the middle of a digest")
    }
    defer { position += Digest.byteCount }
    return bytes.withUnsafeBytes {
      Digest(UnsafeRawBufferPointer(rebasing: $0[position..<position + Digest.byteCount]))
    }
  }

  mutating func skip(_ byteCount: Int) throws(SlabError) { _ = try bytes(byteCount) }

  /// The next bytes as they are.
  package mutating func bytes(_ byteCount: Int) throws(SlabError) -> [UInt8] {
    guard remaining >= byteCount else {
      throw malformed("the \(document) ends in the middle of a record")
    }
    defer { position += byteCount }
    return Array(bytes[position..<position + byteCount])
  }

  /// A string of `byteCount` bytes of UTF-8.
  mutating func string(byteCount: Int, _ what: String) throws(SlabError) -> String {
    guard remaining >= byteCount else {
      throw malformed("the \(document) ends in the middle of the \(what)")
    }
    let start = position
    position += byteCount
    guard let text = String(validating: bytes[start..<position], as: UTF8.self) else {
      throw malformed("the \(what) is not UTF-8", from: start)
    }
    return text
  }

  /// A name with its 16-bit length in front.
  package mutating func name(_ what: String) throws(SlabError) -> String {
    let start = position
    let byteCount = Int(try uint16())
    guard (1...SlabFormat.maximumNameByteCount).contains(byteCount) else {
      throw malformed(
        "the length of the \(what)", expected: "1 to \(SlabFormat.maximumNameByteCount) bytes",
        found: "\(byteCount)", from: start)
    }
    let text = try string(byteCount: byteCount, what)
    guard SlabFormat.isName(text) else {
      throw malformed("the \(what) contains control characters", from: start)
    }
    return text
  }
}

/// Appends little-endian numbers and strings; the mirror of ``ByteReader``.
package struct ByteWriter {
  package private(set) var bytes: [UInt8] = []

  package init() {}

  /// - Parameter capacity: bytes that will be appended, as far as that is known.
  package init(capacity: Int) { bytes.reserveCapacity(capacity) }

  package mutating func append(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  package mutating func append(_ digest: Digest) { bytes.append(contentsOf: digest.bytes) }

  package mutating func append(raw: some Sequence<UInt8>) { bytes.append(contentsOf: raw) }

  /// Many bytes at once: the generic one is slow from other modules.
  package mutating func append(_ buffer: UnsafeRawBufferPointer) {
    bytes.append(contentsOf: buffer)
  }

  /// A name with its 16-bit length in front.
  package mutating func append(name: String) {
    append(UInt16(name.utf8.count))
    append(raw: name.utf8)
  }
}
