import TensorCore

extension SlabIndex {
  /// Reads an index whose digest has been checked; trusts nothing in it all the same.
  /// - Parameter offset: where the index begins in the file, the bound of all that it describes.
  init(_ bytes: [UInt8], path: String, offset: Int) throws(SlabError) {
    var reader = ByteReader(bytes, path: path, fileOffset: offset)
    try self.init(unfinished: &reader)
    for tensor in tensors {
      if let fault = columnScalesFault(of: tensor) {
        throw SlabError(.malformed, path: path, name: tensor.name, fault)
      }
    }
    fillDigests()
  }

  /// Reads an index in which tensors may name column scales that are not there yet; digests of
  /// tensors stay zero.
  init(unfinished reader: inout ByteReader) throws(SlabError) {
    let profileID = try reader.uint8()
    guard let profile = SlabProfile(rawValue: profileID) else {
      throw reader.fault(.unsupported, "the profile", found: "\(profileID)", from: 0)
    }
    self.profile = profile
    metadata = try Self.metadata(&reader)
    assets = try Self.assets(&reader)
    tensors = try Self.tensors(&reader, profile: profile)
    reader.name = nil
    guard reader.remaining == 0 else {
      throw reader.malformed(
        "the index goes on behind its last record", found: "\(reader.remaining) bytes more")
    }
  }

  private static func metadata(_ reader: inout ByteReader) throws(SlabError) -> [String: String] {
    let count = try reader.recordCount(
      "metadata entries", limit: SlabFormat.maximumMetadataCount, minimumByteCount: 7)
    var result: [String: String] = [:]
    var previous: String?
    for _ in 0..<count {
      let key = try nextName("metadata key", after: &previous, &reader)
      let start = reader.position
      let byteCount = Int(try reader.uint32())
      guard byteCount <= SlabFormat.maximumValueByteCount else {
        throw reader.malformed(
          "the length of a metadata value", expected: "at most \(SlabFormat.maximumValueByteCount)",
          found: "\(byteCount)", from: start)
      }
      result[key] = try reader.string(byteCount: byteCount, "metadata value")
    }
    return result
  }

  private static func assets(_ reader: inout ByteReader) throws(SlabError) -> [AssetRecord] {
    let count = try reader.recordCount(
      "assets", limit: SlabFormat.maximumAssetCount, minimumByteCount: 28)
    var result: [AssetRecord] = []
    var total = 0
    var previous: String?
    for _ in 0..<count {
      let name = try nextName("asset name", after: &previous, &reader)
      guard SlabFormat.isAssetName(name) else {
        throw reader.malformed("the name of an asset is no plain file name")
      }
      let bytes = try storedBytes(&reader, logicalByteCount: nil, elementByteCount: 1)
      total += bytes.logicalByteCount
      guard total <= SlabFormat.maximumAssetByteCount else {
        throw reader.malformed(
          "the assets are too long", expected: "at most \(SlabFormat.maximumAssetByteCount) bytes",
          found: "\(total)")
      }
      result.append(AssetRecord(name: name, bytes: bytes))
    }
    return result
  }

  private static func tensors(
    _ reader: inout ByteReader, profile: SlabProfile
  ) throws(SlabError) -> [SlabTensor] {
    reader.name = nil
    let count = try reader.recordCount(
      "tensors", limit: SlabFormat.maximumTensorCount, minimumByteCount: 64)
    var result: [SlabTensor] = []
    var previous: String?
    for _ in 0..<count {
      let name = try nextName("tensor name", after: &previous, &reader)
      result.append(try tensor(&reader, name: name, profile: profile))
    }
    return result
  }

  /// The next name of a sorted list. Names are compared as bytes.
  private static func nextName(
    _ what: String, after previous: inout String?, _ reader: inout ByteReader
  ) throws(SlabError) -> String {
    reader.name = nil
    let start = reader.position
    let name = try reader.name(what)
    reader.name = name
    if let previous, !precedes(previous, name) {
      throw reader.malformed(
        previous.utf8.elementsEqual(name.utf8)
          ? "the \(what) occurs twice" : "the \(what) is out of order",
        from: start)
    }
    previous = name
    return name
  }

  private static func tensor(
    _ reader: inout ByteReader, name: String, profile: SlabProfile
  ) throws(SlabError) -> SlabTensor {
    let start = reader.position
    let (sourceID, encodingID, layoutID) =
      (try reader.uint8(), try reader.uint8(), try reader.uint8())
    guard let sourceType = ElementType(slabID: sourceID) else {
      throw reader.fault(.unsupported, "the source type", found: "\(sourceID)", from: start)
    }
    guard let encoding = BlockEncoding(rawValue: encodingID) else {
      throw reader.fault(.unsupported, "the encoding", found: "\(encodingID)", from: start)
    }
    guard let layout = TensorLayout(rawValue: layoutID) else {
      throw reader.fault(.unsupported, "the layout", found: "\(layoutID)", from: start)
    }
    let rank = Int(try reader.uint8())
    guard (1...SlabFormat.maximumRank).contains(rank) else {
      throw reader.malformed(
        "the number of dimensions", expected: "1 to \(SlabFormat.maximumRank)", found: "\(rank)",
        from: start)
    }
    var shape: [Int] = []
    for _ in 0..<rank {
      shape.append(try reader.count("a dimension", limit: SlabFormat.maximumStreamByteCount))
    }
    guard let forms = TensorForm.streams(shape: shape, encoding: encoding, layout: layout) else {
      throw reader.malformed(
        "the shape", expected: "one that \(encoding.name) in layout \(layout) can have",
        found: "\(shape)", from: start)
    }
    let columnScales = try flag("column scales", &reader) ? try reader.name("tensor name") : nil
    let statistics =
      try flag("error statistics", &reader) ? try Self.statistics(&reader) : nil
    let streamCount = Int(try reader.uint8())
    guard streamCount == forms.count else {
      throw reader.malformed(
        "the number of streams", expected: "\(forms.count)", found: "\(streamCount)")
    }
    var streams: [SlabStream] = []
    for form in forms {
      let kindID = try reader.uint8()
      guard kindID == form.kind.rawValue else {
        throw reader.malformed(
          "the kind of a stream", expected: "\(form.kind.rawValue)", found: "\(kindID)")
      }
      let bytes = try storedBytes(
        &reader, logicalByteCount: form.byteCount,
        elementByteCount: TensorForm.elementByteCount(form.kind, encoding))
      guard profile == .ship || layout == .plain || bytes.codec == .raw else {
        throw reader.malformed(
          "the codec of \(form.kind) in profile run", expected: "raw", found: bytes.codec.name)
      }
      streams.append(SlabStream(kind: form.kind, bytes: bytes))
    }
    return SlabTensor(
      name: name, shape: shape, sourceType: sourceType,
      encoding: encoding, layout: layout, columnScales: columnScales, statistics: statistics,
      streams: streams, digest: .zero)
  }

  private static func flag(
    _ what: String, _ reader: inout ByteReader
  ) throws(SlabError) -> Bool {
    let value = try reader.uint8()
    guard value <= 1 else {
      throw reader.malformed("the flag of \(what)", expected: "0 or 1", found: "\(value)")
    }
    return value == 1
  }

  private static func statistics(_ reader: inout ByteReader) throws(SlabError) -> ErrorStatistics {
    let start = reader.position
    let values = [try reader.uint64(), try reader.uint64(), try reader.uint64()]
      .map(Double.init(bitPattern:))
    guard values.allSatisfy(\.isFinite) else {
      throw reader.malformed("error statistics that are not finite", from: start)
    }
    return ErrorStatistics(
      normalizedMeanSquaredError: values[0], maximumAbsoluteError: values[1],
      cosineSimilarity: values[2])
  }

  /// - Parameter logicalByteCount: what the shape says; nil for an asset.
  private static func storedBytes(
    _ reader: inout ByteReader, logicalByteCount: Int?, elementByteCount: Int
  ) throws(SlabError) -> StoredBytes {
    let start = reader.position
    let codecID = try reader.uint8()
    guard let codec = SlabCodec(rawValue: codecID) else {
      throw reader.fault(.unsupported, "the codec", found: "\(codecID)", from: start)
    }
    guard codec != .zstdPlanes || elementByteCount > 1 else {
      throw reader.malformed(
        "the codec", expected: "one for elements of one byte", found: codec.name, from: start)
    }
    let limit = reader.fileOffset  // all bytes lie before the index
    let offset = try reader.count("the place of a stream", limit: limit)
    let stored = try reader.count("the stored length of a stream", limit: limit)
    let logical = try reader.count(
      "the logical length",
      limit: logicalByteCount == nil
        ? SlabFormat.maximumAssetByteCount : SlabFormat.maximumStreamByteCount)
    guard logicalByteCount == nil || logical == logicalByteCount else {
      throw reader.malformed(
        "the logical length of a stream does not belong to the shape",
        expected: logicalByteCount.map { "\($0)" }, found: "\(logical)", from: start)
    }
    let frames = try frames(&reader, codec: codec, logicalByteCount: logical)
    let sum = frames.reduce(0) { $0 + $1.storedByteCount }
    guard sum == stored else {
      throw reader.malformed(
        "the stored length does not belong to the frames", expected: "\(sum)", found: "\(stored)",
        from: start)
    }
    return StoredBytes(
      codec: codec, offset: offset, storedByteCount: stored, logicalByteCount: logical,
      frames: frames)
  }

  private static func frames(
    _ reader: inout ByteReader, codec: SlabCodec, logicalByteCount: Int
  ) throws(SlabError) -> [StoredFrame] {
    let count = SlabFormat.frameCount(logicalByteCount)
    guard count <= reader.remaining / (codec == .raw ? 32 : 68) else {
      throw reader.malformed(
        "the \(reader.document) is too short for its frames", found: "\(count) frames")
    }
    var frames: [StoredFrame] = []
    frames.reserveCapacity(count)
    for index in 0..<count {
      let logical = SlabFormat.frameRange(index, of: logicalByteCount).count
      let digest = try reader.digest()
      if codec == .raw {
        frames.append(StoredFrame(digest: digest, storedByteCount: logical, storedDigest: nil))
        continue
      }
      let stored = Int(try reader.uint32())
      let limit = logical + SlabFormat.maximumFrameExpansion
      guard (1...limit).contains(stored) else {
        throw reader.malformed(
          "the stored length of a frame", expected: "1 to \(limit)", found: "\(stored)")
      }
      frames.append(
        StoredFrame(digest: digest, storedByteCount: stored, storedDigest: try reader.digest()))
    }
    return frames
  }
}
