import TensorCore

/// The digests of formats/slab.md, section 7: SHA-256 over logical content, each kind with a tag of
/// its own in front.
enum SlabDigests {
  private static func tag(_ text: StaticString) -> [UInt8] {
    let bytes = text.withUTF8Buffer { Array($0) }
    return bytes + [UInt8](repeating: 0, count: 16 - bytes.count)
  }

  private static let frameTag = tag("slab1 frame")

  /// Of the logical bytes of one frame.
  static func frame(_ bytes: UnsafeRawBufferPointer) -> Digest {
    var hasher = Hasher256()
    frameTag.withUnsafeBytes { hasher.update($0) }
    withUnsafeBytes(of: UInt64(bytes.count).littleEndian) { hasher.update($0) }
    hasher.update(bytes)
    return hasher.finish()
  }

  private static func append(_ bytes: StoredBytes, to writer: inout ByteWriter) {
    writer.append(UInt64(bytes.logicalByteCount))
    writer.append(UInt32(bytes.frames.count))
    for frame in bytes.frames { writer.append(frame.digest) }
  }

  static func stream(_ kind: StreamKind, _ bytes: StoredBytes) -> Digest {
    var writer = ByteWriter()
    writer.append(raw: tag("slab1 stream"))
    writer.append(kind.rawValue)
    append(bytes, to: &writer)
    return Digest(of: writer.bytes)
  }

  /// - Parameter columnScales: digest of the tensor that holds the column scales.
  static func tensor(
    shape: [Int], encoding: BlockEncoding, layout: TensorLayout, streams: [SlabStream],
    columnScales: Digest?
  ) -> Digest {
    var writer = ByteWriter()
    writer.append(raw: tag("slab1 tensor"))
    writer.append(encoding.rawValue)
    writer.append(layout.rawValue)
    writer.append(UInt8(shape.count))
    for dimension in shape { writer.append(UInt64(dimension)) }
    writer.append(UInt8(columnScales == nil ? 0 : 1))
    if let columnScales { writer.append(columnScales) }
    writer.append(UInt8(streams.count))
    for stream in streams { writer.append(self.stream(stream.kind, stream.bytes)) }
    return Digest(of: writer.bytes)
  }

  static func asset(_ bytes: StoredBytes) -> Digest {
    var writer = ByteWriter()
    writer.append(raw: tag("slab1 asset"))
    append(bytes, to: &writer)
    return Digest(of: writer.bytes)
  }

  /// Of a whole model: its tensors and assets with their names, each in the order of the index.
  static func root(tensors: [SlabTensor], assets: [AssetRecord]) -> Digest {
    var writer = ByteWriter()
    writer.append(raw: tag("slab1 root"))
    writer.append(UInt32(tensors.count))
    for tensor in tensors {
      writer.append(name: tensor.name)
      writer.append(tensor.digest)
    }
    writer.append(UInt32(assets.count))
    for asset in assets {
      writer.append(name: asset.name)
      writer.append(self.asset(asset.bytes))
    }
    return Digest(of: writer.bytes)
  }
}
