import TensorCore

/// All of a slab but its weights, checked byte by byte.
struct SlabContents {
  let superblock: Superblock
  let index: SlabIndex
  let assets: [SlabAsset]

  init(of file: SlabFile) throws(SlabError) {
    superblock = try Self.superblock(of: file)
    let range =
      superblock.indexOffset..<superblock.indexOffset + superblock.indexByteCount
    let bytes = try file.bytes(range)
    guard Digest(of: bytes) == superblock.indexDigest else {
      throw SlabError(
        .damaged, path: file.path, byteRange: range, "the index does not match its digest")
    }
    index = try SlabIndex(bytes, path: file.path, offset: range.lowerBound)
    let padding = try index.checkPlacement(path: file.path, indexOffset: range.lowerBound)
    guard index.rootDigest == superblock.rootDigest else {
      throw SlabError(
        .malformed, path: file.path, expected: "\(superblock.rootDigest)",
        found: "\(index.rootDigest)", "the root digest does not belong to the index")
    }
    for range in padding {
      let bytes = try file.bytes(range)
      guard let position = bytes.firstIndex(where: { $0 != 0 }) else { continue }
      let offset = range.lowerBound + position
      throw SlabError(
        .damaged, path: file.path, byteRange: offset..<offset + 1, expected: "0",
        found: "\(bytes[position])", "padding between streams is not zero")
    }
    var assets: [SlabAsset] = []
    for record in index.assets {
      var bytes = [UInt8](repeating: 0, count: record.bytes.logicalByteCount)
      try bytes.withUnsafeMutableBufferPointer { buffer throws(SlabError) in
        try file.load(
          FrameRead.frames(
            of: record.bytes, name: record.name, stream: nil, width: 1,
            into: UnsafeMutableRawBufferPointer(buffer)),
          check: .everyDigest, pool: WorkerPool(threadCount: 1))
      }
      assets.append(SlabAsset(name: record.name, bytes: bytes))
    }
    self.assets = assets
  }

  private static func superblock(of file: SlabFile) throws(SlabError) -> Superblock {
    let byteCount = file.status.byteCount
    let start = try file.bytes(0..<min(byteCount, SlabFormat.superblockByteCount))
    guard start.count == SlabFormat.superblockByteCount else {
      let isPart = !start.isEmpty && SlabFormat.magic.starts(with: start.prefix(8))
      throw SlabError(
        isPart ? .damaged : .notASlab, path: file.path,
        expected: "at least \(SlabFormat.superblockByteCount) bytes", found: "\(byteCount)",
        isPart ? "the file is cut short" : "not a slab: the file is too short")
    }
    return try Superblock(start, path: file.path, fileByteCount: byteCount)
  }
}
