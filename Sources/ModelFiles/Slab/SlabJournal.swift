/// What an interrupted writer needs to go on: the state after a step, whose bytes were on the disk
/// before the journal was.
///
/// The journal of `TARGET` is the file `TARGET.journal`. It is private to one version of this
/// program and no part of the format of slabs:
///
///     magic | u32 version | body | SHA-256 of all that
///
/// A new one is written beside it and renamed over it, so that a torn one is never met.
struct SlabJournal {
  /// What the output depends on.
  var fingerprint: Fingerprint
  /// How far the work was, for people: "12 of 40 layers".
  var summary: String
  /// Profile and tensors so far; no assets, and of metadata what belongs to tensors.
  var index: SlabIndex
  /// See ``SlabWriter``.
  var scaleDigests: [ScaleDigest]
  /// The caller's.
  var payload: [UInt8]

  struct ScaleDigest {
    let tensor: String
    let scales: String
    let digest: Digest
  }

  static let maximumPayloadByteCount = 1 << 30

  private static let magic: [UInt8] = [0x8A, 0x51, 0x4A, 0x4C, 0x0D, 0x0A, 0x1A, 0x0A]
  private static let version: UInt32 = 1
  /// Bytes of the file that are read.
  private static let maximumByteCount =
    maximumPayloadByteCount + 4 * SlabFormat.maximumIndexByteCount

  static func path(of target: String) -> String { target + ".journal" }
  /// What the next journal is called until it is on the disk.
  static func nextPath(of target: String) -> String { target + ".journal.partial" }

  /// Removes the journal of `target`, if there is one.
  static func remove(target: String) {
    SystemCalls.remove(nextPath(of: target))
    SystemCalls.remove(path(of: target))
  }

  /// Bytes of the file before the payload.
  func head() -> [UInt8] {
    var writer = ByteWriter()
    writer.append(raw: Self.magic)
    writer.append(Self.version)
    writer.append(UInt32(fingerprint.components.count))
    for component in fingerprint.components {
      writer.append(name: component.name)
      writer.append(UInt32(component.value.utf8.count))
      writer.append(raw: component.value.utf8)
    }
    writer.append(name: summary)
    var index = index
    index.assets = []
    index.tensors.sort { precedes($0.name, $1.name) }
    index.metadata = index.weightedErrorMetadata
    let bytes = index.encoded()
    writer.append(UInt64(bytes.count))
    writer.append(raw: bytes)
    writer.append(UInt32(scaleDigests.count))
    for entry in scaleDigests {
      writer.append(name: entry.tensor)
      writer.append(name: entry.scales)
      writer.append(entry.digest)
    }
    writer.append(UInt64(payload.count))
    return writer.bytes
  }
}

extension SlabJournal {
  /// Reads the journal of `target`; trusts nothing in it.
  ///
  /// - Parameter end: length of the unfinished file, in which everything must lie.
  /// - Returns: nil where there is none.
  /// - Throws: ``SlabError``.
  static func read(target: String, end: Int) throws(SlabError) -> SlabJournal? {
    let path = path(of: target)
    let result = Result { () throws(FileError) in
      try MappedFile.contents(of: path, limit: maximumByteCount)
    }
    switch result {
    case .success(let bytes): return try SlabJournal(bytes, path: path, end: end)
    case .failure(let error):
      if SystemCalls.isMissing(error) { return nil }
      throw SlabError(error)
    }
  }

  private init(_ bytes: [UInt8], path: String, end: Int) throws(SlabError) {
    guard bytes.isEmpty || bytes.starts(with: Self.magic) else {
      throw SlabError(
        .invalidInput, path: path,
        "the file is no journal of a conversion; remove it, or choose another output")
    }
    let bodyEnd = bytes.count - Digest.byteCount
    guard bodyEnd >= Self.magic.count,
      bytes.withUnsafeBytes({ bytes in
        Digest(of: UnsafeRawBufferPointer(rebasing: bytes[..<bodyEnd]))
          == Digest(UnsafeRawBufferPointer(rebasing: bytes[bodyEnd...]))
      })
    else { throw SlabError(.journalDamaged, path: path, "the journal does not match its digest") }
    do throws(SlabError) {
      var reader = ByteReader(bytes, path: path, document: "journal")
      try reader.skip(Self.magic.count)
      guard try reader.uint32() == Self.version else {
        throw reader.malformed("the journal is of another version of this program")
      }
      fingerprint = try Self.fingerprint(&reader)
      summary = try reader.name("summary")
      let indexByteCount = try reader.count(
        "the length of the index", limit: SlabFormat.maximumIndexByteCount)
      var indexReader = ByteReader(
        try reader.bytes(indexByteCount), path: path, fileOffset: end, document: "journal")
      index = try SlabIndex(unfinished: &indexReader)
      index.readWeightedErrors()
      scaleDigests = try Self.scaleDigests(&reader)
      let payloadByteCount = try reader.count(
        "the length of the payload", limit: Self.maximumPayloadByteCount)
      payload = try reader.bytes(payloadByteCount)
      guard reader.remaining == Digest.byteCount else {
        throw reader.malformed("the journal goes on behind its payload")
      }
    } catch {
      throw SlabError(.journalDamaged, path: path, error.message)
    }
  }

  private static func fingerprint(_ reader: inout ByteReader) throws(SlabError) -> Fingerprint {
    let count = try reader.recordCount(
      "components", limit: SlabFormat.maximumMetadataCount, minimumByteCount: 7)
    var components: [Fingerprint.Component] = []
    for _ in 0..<count {
      let name = try reader.name("name of a component")
      let byteCount = Int(try reader.uint32())
      guard byteCount <= SlabFormat.maximumValueByteCount else {
        throw reader.malformed("the length of a component")
      }
      components.append(
        Fingerprint.Component(name, try reader.string(byteCount: byteCount, "component")))
    }
    return Fingerprint(components)
  }

  private static func scaleDigests(_ reader: inout ByteReader) throws(SlabError) -> [ScaleDigest] {
    let count = try reader.recordCount(
      "column scales", limit: SlabFormat.maximumTensorCount, minimumByteCount: 38)
    var result: [ScaleDigest] = []
    for _ in 0..<count {
      result.append(
        ScaleDigest(
          tensor: try reader.name("tensor name"), scales: try reader.name("tensor name"),
          digest: try reader.digest()))
    }
    return result
  }
}
