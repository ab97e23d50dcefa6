import TensorCore

/// Everything that a slab's file must hold and where, known from an index that its digest vouches for,
/// whatever became of the rest.
struct SlabParts {
  /// One run of bytes that is checked, and replaced, as a whole.
  enum Content {
    case superblock
    case padding
    case index
    case frame(Frame)
  }

  struct Frame {
    /// Of the tensor or asset.
    let name: String
    /// Nil for assets.
    let stream: StreamKind?
    let index: Int
    let codec: SlabCodec
    let frame: StoredFrame
    let logicalByteCount: Int
    /// Bytes of an element.
    let width: Int
  }

  struct Part {
    let range: Range<Int>
    let content: Content
  }

  let superblock: [UInt8]
  let indexBytes: [UInt8]
  let index: SlabIndex
  /// In the order of the file, without gaps.
  let parts: [Part]
  var byteCount: Int { parts.last!.range.upperBound }

  /// - Parameters:
  ///   - superblock: the bytes of the file, where they are intact; else it is made anew.
  ///   - offset: where the index begins.
  /// - Throws: ``SlabError`` if the index contradicts itself or the superblock.
  init(superblock: [UInt8]?, indexBytes: [UInt8], offset: Int, path: String) throws(SlabError) {
    let index = try SlabIndex(indexBytes, path: path, offset: offset)
    let padding = try index.checkPlacement(path: path, indexOffset: offset)
    let root = index.rootDigest
    if let superblock {
      let stated = try Superblock(
        superblock, path: path, fileByteCount: offset + indexBytes.count)
      guard stated.rootDigest == root else {
        throw SlabError(.malformed, path: path, "the root digest does not belong to the index")
      }
    }
    self.superblock =
      superblock
      ?? Superblock(
        indexOffset: offset, indexByteCount: indexBytes.count, indexDigest: Digest(of: indexBytes),
        rootDigest: root
      ).encoded()
    self.indexBytes = indexBytes
    self.index = index

    var parts = [Part(range: 0..<SlabFormat.superblockByteCount, content: .superblock)]
    parts += padding.map { Part(range: $0, content: .padding) }
    for tensor in index.tensors {
      for stream in tensor.streams {
        parts += Self.frames(
          of: stream.bytes, tensor.name, stream.kind,
          width: TensorForm.elementByteCount(stream.kind, tensor.encoding))
      }
    }
    for asset in index.assets { parts += Self.frames(of: asset.bytes, asset.name, nil, width: 1) }
    parts.append(Part(range: offset..<offset + indexBytes.count, content: .index))
    self.parts = parts.sorted { $0.range.lowerBound < $1.range.lowerBound }
  }

  private static func frames(
    of bytes: StoredBytes, _ name: String, _ stream: StreamKind?, width: Int
  ) -> [Part] {
    zip(bytes.frameRanges, bytes.frames).enumerated().map { index, pair in
      Part(
        range: pair.0,
        content: .frame(
          Frame(
            name: name, stream: stream, index: index, codec: bytes.codec, frame: pair.1,
            logicalByteCount: SlabFormat.frameRange(index, of: bytes.logicalByteCount).count,
            width: width)))
    }
  }

  /// Where the frame of that name is.
  func place(of frame: Frame) -> StoredBytes? {
    guard let stream = frame.stream else {
      return index.assets.first { $0.name.utf8.elementsEqual(frame.name.utf8) }?.bytes
    }
    guard let position = index.position(ofTensor: frame.name) else { return nil }
    return index.tensors[position].streams.first { $0.kind == stream }?.bytes
  }
}

extension SlabFile {
  /// The bytes of `range`; nil where the file is too short or they cannot be read.
  func readable(_ range: Range<Int>) -> [UInt8]? {
    range.upperBound <= status.byteCount ? try? bytes(range) : nil
  }

  /// The stored bytes of a part, if they are what they must be.
  func intactBytes(of part: SlabParts.Part, in parts: SlabParts) -> [UInt8]? {
    guard let bytes = readable(part.range) else { return nil }
    let isIntact =
      switch part.content {
      case .superblock: bytes == parts.superblock
      case .index: bytes == parts.indexBytes
      case .padding: bytes.allSatisfy { $0 == 0 }
      case .frame(let frame): frame.frame.describes(bytes)
      }
    return isIntact ? bytes : nil
  }
}

extension StoredFrame {
  /// Whether these are the stored bytes of the frame.
  func describes(_ stored: [UInt8]) -> Bool {
    guard stored.count == storedByteCount else { return false }
    if let storedDigest { return Digest(of: stored) == storedDigest }
    return stored.withUnsafeBytes { SlabDigests.frame($0) } == digest
  }
}
