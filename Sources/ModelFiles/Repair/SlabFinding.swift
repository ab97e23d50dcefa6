import TensorCore

/// What superblock and index of a file that may be damaged still say.
struct SlabFinding {
  /// The superblock, if it is intact; the length of the file is not compared with it.
  let superblock: Superblock?
  let superblockBytes: [UInt8]?
  /// Nil if the index is damaged, or no digest is left that vouches for it.
  let parts: SlabParts?
  /// What an index says that may be damaged: one that was found without a superblock.
  let unproven: SlabParts?

  /// - Throws: ``SlabError`` if the file is of a kind that this program does not know, or contradicts
  ///   itself: that is no damage.
  init(_ file: SlabFile) throws(SlabError) {
    superblockBytes = try Self.superblock(of: file)
    guard let bytes = superblockBytes else {
      superblock = nil
      unproven = Self.foundIndex(of: file)
      parts = unproven.flatMap { Self.vouches(file, for: $0) ? $0 : nil }
      return
    }
    unproven = nil
    let superblock = try Superblock(
      bytes, path: file.path, fileByteCount: Self.declaredByteCount(bytes)!)
    self.superblock = superblock
    let range = superblock.indexRange
    guard let index = file.readable(range), Digest(of: index) == superblock.indexDigest else {
      parts = nil
      return
    }
    parts = try SlabParts(
      superblock: bytes, indexBytes: index, offset: range.lowerBound, path: file.path)
  }

  /// The first bytes of the file; nil if they are damaged.
  private static func superblock(of file: SlabFile) throws(SlabError) -> [UInt8]? {
    guard let bytes = file.readable(0..<SlabFormat.superblockByteCount),
      let byteCount = declaredByteCount(bytes)
    else { return nil }
    do throws(SlabError) {
      _ = try Superblock(bytes, path: file.path, fileByteCount: byteCount)
    } catch {
      switch error.reason {
      case .damaged, .unfinished, .notASlab: return nil
      default: throw error
      }
    }
    return bytes
  }

  /// The length of the file, as a superblock says that may be anything; nil if it cannot be counted.
  private static func declaredByteCount(_ superblock: [UInt8]) -> Int? {
    var reader = ByteReader(Array(superblock[32..<48]), path: "")
    guard let offset = try? reader.count("", limit: 1 << 61),
      let count = try? reader.count("", limit: SlabFormat.maximumIndexByteCount)
    else { return nil }
    return offset + count
  }

  /// Whether the digest of the index is still where the superblock had it.
  private static func vouches(_ file: SlabFile, for parts: SlabParts) -> Bool {
    file.readable(48..<80) == Digest(of: parts.indexBytes).bytes
  }

  /// Without a superblock: the index ends the file, begins at a multiple of 64, and every place in it
  /// must fit to where it begins, so that nothing else can pass for one.
  private static func foundIndex(of file: SlabFile) -> SlabParts? {
    let byteCount = file.status.byteCount
    let start = SlabFormat.align(
      max(SlabFormat.superblockByteCount, byteCount - SlabFormat.maximumIndexByteCount),
      to: SlabFormat.streamAlignment)
    guard start < byteCount, let tail = file.readable(start..<byteCount) else { return nil }
    // Few places look like the beginning of an index; hostile files have as many as they like.
    var attempts = 0
    for offset in stride(from: 0, to: tail.count, by: SlabFormat.streamAlignment)
    where looksLikeIndex(tail, offset) {
      attempts += 1
      if attempts > 64 { return nil }
      if let parts = try? SlabParts(
        superblock: nil, indexBytes: Array(tail[offset...]), offset: start + offset, path: file.path
      ) {
        return parts
      }
    }
    return nil
  }

  /// Whether a profile, a plausible number of metadata entries and a key begin there.
  private static func looksLikeIndex(_ bytes: [UInt8], _ offset: Int) -> Bool {
    guard offset + 8 <= bytes.count, bytes[offset] <= 1 else { return false }
    let count = Int(bytes[offset + 1]) | Int(bytes[offset + 2]) << 8
    let keyByteCount = Int(bytes[offset + 5]) | Int(bytes[offset + 6]) << 8
    return (1...SlabFormat.maximumMetadataCount).contains(count) && bytes[offset + 3] == 0
      && bytes[offset + 4] == 0 && (1...SlabFormat.maximumNameByteCount).contains(keyByteCount)
      && bytes[offset + 7] >= 0x20
  }
}

extension Superblock {
  /// Where the index is.
  var indexRange: Range<Int> { indexOffset..<indexOffset + indexByteCount }
}
