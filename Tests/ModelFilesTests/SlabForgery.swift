import Foundation
import TensorCore

@testable import ModelFiles

/// A slab whose index says something else than a writer would write, with digests that match all
/// the same: only the checks of the contents can find it.
struct SlabForgery {
  private let file: [UInt8]
  private let indexOffset: Int
  /// What the index says; encoded anew unless ``indexBytes`` is set.
  var index: SlabIndex
  /// Bytes of the index.
  var indexBytes: [UInt8]?
  /// Changes the finished superblock before its own digest is computed.
  var patchSuperblock: (inout [UInt8]) -> Void = { _ in }
  /// Changes the bytes before the index.
  var patchData: (inout [UInt8]) -> Void = { _ in }
  /// Bytes behind the index.
  var tail: [UInt8] = []
  /// Whether the superblock stays as it is while a file is being written.
  var clearsSuperblock = false

  init(of path: String) throws {
    file = try SlabFixtures.bytes(path)
    let contents = try SlabContents(of: SlabFile(path: path))
    index = contents.index
    indexOffset = contents.superblock.indexOffset
  }

  /// Writes the forgery.
  func write(to path: String) throws {
    var data = Array(file[..<indexOffset])
    patchData(&data)
    var index = index
    index.fillDigests()
    let bytes = indexBytes ?? index.encoded()
    var superblock = Superblock(
      indexOffset: data.count, indexByteCount: bytes.count, indexDigest: Digest(of: bytes),
      rootDigest: index.rootDigest
    ).encoded()
    patchSuperblock(&superblock)
    let covered = SlabFormat.superblockByteCount - Digest.byteCount
    superblock.replaceSubrange(covered..., with: Digest(of: Array(superblock[..<covered])).bytes)
    if clearsSuperblock { superblock = [UInt8](repeating: 0, count: superblock.count) }
    data.replaceSubrange(0..<SlabFormat.superblockByteCount, with: superblock)
    try Data(data + bytes + tail).write(to: URL(filePath: path))
  }

  /// Replaces the tensor of that name by what `change` makes of it.
  mutating func change(
    _ name: String, renamed: String? = nil, shape: [Int]? = nil, encoding: BlockEncoding? = nil,
    layout: TensorLayout? = nil, columnScales: String?? = nil,
    statistics: ErrorStatistics?? = nil, streams: [SlabStream]? = nil
  ) {
    let position = index.position(ofTensor: name)!
    let old = index.tensors[position]
    index.tensors[position] = SlabTensor(
      name: renamed ?? old.name, shape: shape ?? old.shape, sourceType: old.sourceType,
      encoding: encoding ?? old.encoding, layout: layout ?? old.layout,
      columnScales: columnScales ?? old.columnScales, statistics: statistics ?? old.statistics,
      streams: streams ?? old.streams, digest: old.digest)
  }

  /// Changes the stored bytes of one stream of a tensor.
  mutating func change(
    _ name: String, _ kind: StreamKind, _ body: (inout StoredBytes) -> Void
  ) {
    changeStreams(name) { streams in
      streams.map { stream in
        var bytes = stream.bytes
        if stream.kind == kind { body(&bytes) }
        return SlabStream(kind: stream.kind, bytes: bytes)
      }
    }
  }

  /// Changes which streams a tensor has.
  mutating func changeStreams(_ name: String, _ body: ([SlabStream]) -> [SlabStream]) {
    change(name, streams: body(index.tensors[index.position(ofTensor: name)!].streams))
  }

  /// Replaces the one occurrence of `pattern` in the index.
  mutating func replace(_ pattern: [UInt8], with bytes: [UInt8]) {
    var encoded = indexBytes ?? index.encoded()
    let starts = (0...encoded.count - pattern.count).filter {
      encoded[$0..<$0 + pattern.count].elementsEqual(pattern)
    }
    precondition(starts.count == 1, "\(starts.count) occurrences")
    encoded.replaceSubrange(starts[0]..<starts[0] + pattern.count, with: bytes)
    indexBytes = encoded
  }

  /// Sets a 32-bit number of the index.
  mutating func replaceCount(at offset: Int, with count: UInt32) {
    var encoded = indexBytes ?? index.encoded()
    withUnsafeBytes(of: count.littleEndian) {
      encoded.replaceSubrange(offset..<offset + 4, with: $0)
    }
    indexBytes = encoded
  }

  /// Sets the codec of a stream to a number, known or not.
  mutating func replaceCodec(_ name: String, _ kind: StreamKind, with codec: UInt8) {
    let tensor = index.tensors[index.position(ofTensor: name)!]
    let stream = tensor.streams.first { $0.kind == kind }!
    let offset = withUnsafeBytes(of: UInt64(stream.offset).littleEndian) { Array($0) }
    replace(
      [kind.rawValue, stream.codec.rawValue] + offset, with: [kind.rawValue, codec] + offset)
  }

  /// Sets a byte of a raw stream, and the digest of its frame to what fits.
  mutating func patch(_ name: String, _ kind: StreamKind, at position: Int, with byte: UInt8) {
    let tensor = index.tensors[index.position(ofTensor: name)!]
    let bytes = tensor.streams.first { $0.kind == kind }!.bytes
    precondition(bytes.codec == .raw && bytes.frames.count == 1)
    var logical = Array(file[bytes.byteRange])
    logical[position] = byte
    patchData = { [logical] in $0.replaceSubrange(bytes.byteRange, with: logical) }
    change(name, kind) {
      $0.frames[0].digest = logical.withUnsafeBytes { SlabDigests.frame($0) }
    }
  }

  /// Replaces the asset that lies last in the file by one compressed frame.
  /// - Parameter logical: what the frame is said to hold.
  mutating func replaceLastAsset(stored: [UInt8], logical: [UInt8]) {
    let last = index.assets.count - 1
    let offset = index.assets[last].bytes.offset
    index.assets[last].bytes = StoredBytes(
      codec: .zstd, offset: offset, storedByteCount: stored.count, logicalByteCount: logical.count,
      frames: [
        StoredFrame(
          digest: logical.withUnsafeBytes { SlabDigests.frame($0) },
          storedByteCount: stored.count, storedDigest: Digest(of: stored))
      ])
    patchData = { data in
      data = Array(data[..<offset]) + stored
      data += [UInt8](repeating: 0, count: SlabFormat.align(data.count, to: 64) - data.count)
    }
  }
}
