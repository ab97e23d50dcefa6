/// The first 4096 bytes of a slab (formats/slab.md, section 3).
struct Superblock: Equatable {
  var indexOffset: Int
  var indexByteCount: Int
  var indexDigest: Digest
  var rootDigest: Digest

  /// Bytes before the superblock's own digest.
  private static let coveredByteCount = SlabFormat.superblockByteCount - Digest.byteCount

  func encoded() -> [UInt8] {
    var writer = ByteWriter()
    writer.append(raw: SlabFormat.magic)
    writer.append(SlabFormat.version)
    writer.append(SlabFormat.byteOrderMark)
    writer.append(UInt64(0))  // must understand
    writer.append(UInt64(0))  // may ignore
    writer.append(UInt64(indexOffset))
    writer.append(UInt64(indexByteCount))
    writer.append(indexDigest)
    writer.append(rootDigest)
    writer.append(
      raw: repeatElement(0, count: Self.coveredByteCount - writer.bytes.count))
    writer.append(Digest(of: writer.bytes))
    return writer.bytes
  }

  /// - Parameters:
  ///   - bytes: the first 4096 bytes of the file.
  ///   - fileByteCount: the length of the whole file.
  init(_ bytes: [UInt8], path: String, fileByteCount: Int) throws(SlabError) {
    let whole = 0..<SlabFormat.superblockByteCount
    guard !bytes.allSatisfy({ $0 == 0 }) else {
      throw SlabError(.unfinished, path: path, "this slab was never finished")
    }
    guard bytes.starts(with: SlabFormat.magic) else {
      throw SlabError(
        .notASlab, path: path, byteRange: 0..<8, "not a slab: it does not begin as one")
    }
    var reader = ByteReader(bytes, path: path)
    let own = Digest(of: Array(bytes[..<Self.coveredByteCount]))
    guard bytes[Self.coveredByteCount...].elementsEqual(own.bytes) else {
      throw SlabError(
        .damaged, path: path, byteRange: whole, "the superblock does not match its digest")
    }
    _ = try reader.uint64()
    let version = try reader.uint32()
    guard version == SlabFormat.version else {
      throw reader.fault(
        .unsupported, "the version of the format", expected: "\(SlabFormat.version)",
        found: "\(version)", from: 8)
    }
    let mark = try reader.uint32()
    guard mark == SlabFormat.byteOrderMark else {
      throw reader.fault(
        .unsupported,
        mark == SlabFormat.byteOrderMark.byteSwapped
          ? "the file is big-endian" : "the byte order mark is unknown",
        expected: "\(SlabFormat.byteOrderMark)", found: "\(mark)", from: 12)
    }
    let mustUnderstand = try reader.uint64()
    guard mustUnderstand == 0 else {
      throw reader.fault(
        .unsupported, "the file needs features that this program does not know",
        expected: "0", found: "0x" + String(mustUnderstand, radix: 16), from: 16)
    }
    _ = try reader.uint64()  // may ignore
    let start = reader.position
    indexOffset = try reader.count("the place of the index", limit: 1 << 61)
    indexByteCount = try reader.count(
      "the length of the index", limit: SlabFormat.maximumIndexByteCount)
    guard indexOffset >= SlabFormat.superblockByteCount,
      indexOffset % SlabFormat.streamAlignment == 0
    else {
      throw reader.malformed(
        "the place of the index",
        expected: "a multiple of \(SlabFormat.streamAlignment) behind the superblock",
        found: "\(indexOffset)", from: start)
    }
    // Both are at most 2^61.
    guard indexOffset + indexByteCount == fileByteCount else {
      throw reader.fault(
        indexOffset + indexByteCount > fileByteCount ? .damaged : .malformed,
        indexOffset + indexByteCount > fileByteCount
          ? "the file is cut short" : "the file goes on behind its index",
        expected: "\(indexOffset + indexByteCount) bytes", found: "\(fileByteCount)", from: start)
    }
    indexDigest = try reader.digest()
    rootDigest = try reader.digest()
    guard bytes[reader.position..<Self.coveredByteCount].allSatisfy({ $0 == 0 }) else {
      throw SlabError(
        .malformed, path: path, byteRange: reader.position..<Self.coveredByteCount,
        "reserved bytes of the superblock are not zero")
    }
  }

  init(indexOffset: Int, indexByteCount: Int, indexDigest: Digest, rootDigest: Digest) {
    self.indexOffset = indexOffset
    self.indexByteCount = indexByteCount
    self.indexDigest = indexDigest
    self.rootDigest = rootDigest
  }
}
