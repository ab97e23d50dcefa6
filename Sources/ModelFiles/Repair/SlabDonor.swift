import TensorCore

/// A good copy of a slab, of either profile, whose own index must be intact and whose frames are checked
/// as they are used.
struct SlabDonor {
  let file: SlabFile
  let parts: SlabParts

  init(path: String) throws(SlabError) {
    file = try SlabFile(path: path)
    guard let parts = try SlabFinding(file).parts else {
      throw SlabError(
        .damaged, path: path,
        "its superblock or index is damaged, so it is of no use as a good copy")
    }
    self.parts = parts
  }

  /// The stored bytes of a frame of another file of the same model; nil if they are damaged here too,
  /// or this version of libzstd compresses them otherwise than the one that wrote the file.
  func storedBytes(of frame: SlabParts.Frame) -> [UInt8]? {
    guard let place = parts.place(of: frame), frame.index < place.frames.count else { return nil }
    let own = place.frames[frame.index]
    let range = place.frameRanges[frame.index]
    guard own.digest == frame.frame.digest else { return nil }
    if own.storedDigest == frame.frame.storedDigest {
      return file.readable(range).flatMap { frame.frame.describes($0) ? $0 : nil }
    }
    let count = frame.logicalByteCount
    guard SlabFormat.frameRange(frame.index, of: place.logicalByteCount).count == count else {
      return nil
    }
    var logical = [UInt8](repeating: 0, count: count)
    let isRead = logical.withUnsafeMutableBytes { buffer in
      let read = FrameRead(
        frame: own, codec: place.codec, range: range, width: frame.width, destination: buffer,
        name: frame.name, stream: frame.stream, index: frame.index)
      return (try? FrameReader(file, check: .everyDigest).read(read)) != nil
    }
    guard isRead else { return nil }
    let stored =
      frame.codec == .raw
      ? logical
      : logical.withUnsafeBytes {
        FrameCoding.compress($0, width: frame.codec == .zstdPlanes ? frame.width : 1)
      }
    return frame.frame.describes(stored) ? stored : nil
  }

  /// The parts of this model in the other profile, as this version of libzstd compresses it: the same
  /// as those of the file that `quarry repack` would write.
  /// - Throws: ``SlabError`` if this copy is damaged.
  func repackedParts(pool: WorkerPool) throws(SlabError) -> SlabParts {
    let profile: SlabProfile = parts.index.profile == .run ? .ship : .run
    var index = SlabIndex(
      profile: profile, metadata: parts.index.metadata, assets: [], tensors: [])
    index.metadata.merge(SlabWriter.compressionMetadata) { $1 }
    var placement = Placement()

    func stored(
      _ bytes: StoredBytes, at offset: Int, _ name: String, _ kind: StreamKind?, width: Int,
      compressing: Bool
    ) throws(SlabError) -> StoredBytes {
      try file.checkFits(bytes.logicalByteCount, name: name, stream: kind)
      let buffer = AlignedBuffer(byteCount: bytes.logicalByteCount)
      try file.load(
        FrameRead.frames(
          of: bytes, name: name, stream: kind, width: width,
          into: UnsafeMutableRawBufferPointer(start: buffer.base, count: bytes.logicalByteCount)),
        check: .everyDigest, pool: pool)
      let encoded = EncodedBytes(
        UnsafeRawBufferPointer(start: buffer.base, count: bytes.logicalByteCount), width: width,
        compressing: compressing, pool: pool)
      placement.advance(to: offset + encoded.storedByteCount)
      return StoredBytes(
        codec: encoded.codec, offset: offset, storedByteCount: encoded.storedByteCount,
        logicalByteCount: bytes.logicalByteCount, frames: encoded.frames)
    }

    for tensor in parts.index.fileOrder {
      var streams: [SlabStream] = []
      for stream in tensor.streams {
        let offset =
          streams.isEmpty ? placement.startTensor(layout: tensor.layout) : placement.nextStream()
        streams.append(
          SlabStream(
            kind: stream.kind,
            bytes: try stored(
              stream.bytes, at: offset, tensor.name, stream.kind,
              width: TensorForm.elementByteCount(stream.kind, tensor.encoding),
              compressing: profile == .ship || tensor.layout == .plain)))
      }
      index.tensors.append(
        SlabTensor(
          name: tensor.name, shape: tensor.shape, sourceType: tensor.sourceType,
          encoding: tensor.encoding, layout: tensor.layout, columnScales: tensor.columnScales,
          statistics: tensor.statistics, streams: streams, digest: .zero))
    }
    for asset in parts.index.assets {
      let offset = placement.startAsset()
      index.assets.append(
        AssetRecord(
          name: asset.name,
          bytes: try stored(asset.bytes, at: offset, asset.name, nil, width: 1, compressing: true)))
    }
    index.tensors.sort { precedes($0.name, $1.name) }
    return try SlabParts(
      superblock: nil, indexBytes: index.encoded(), offset: placement.index(), path: file.path)
  }
}
