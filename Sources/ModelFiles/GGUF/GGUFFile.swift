public import JSON

/// A tensor of a GGUF file: where its bytes are and how they are stored.
public struct GGUFTensor: Sendable, Equatable {
  public let name: String
  public let type: GGUFType
  /// Row-major, as everywhere in Quarry: the file has the dimensions in reverse.
  public let shape: [Int]
  /// Bytes of the file.
  public let byteRange: Range<Int>

  public var elementCount: Int { shape.reduce(1, *) }
  public var byteCount: Int { byteRange.count }
}

/// A GGUF file (versions 2 and 3, little-endian), mapped and checked: metadata, tensors, types, offsets.
///
/// Read only to be shown: no tensor overlaps another or leaves the file, but holes between tensors are
/// accepted and listed.
public struct GGUFFile: Sendable {
  public static let magic: [UInt8] = Array("GGUF".utf8)
  /// Of a metadata key.
  static let maximumKeyByteCount = 65535
  /// Of the name of a tensor; ggml writes 63 bytes at most.
  static let maximumNameByteCount = 4096
  static let maximumRank = 8
  private static let alignmentKey = "general.alignment"

  public let path: String
  public let version: Int
  /// In the order of the file.
  public let metadata: [(key: String, value: GGUFValue)]
  /// In the order of their bytes.
  public let tensors: [GGUFTensor]
  /// What tensors begin at multiples of, from ``dataOffset`` on.
  public let alignment: Int
  /// Where the list of tensors begins.
  public let listOffset: Int
  /// Where the list of tensors ends.
  public let headerByteCount: Int
  /// Where the bytes of the tensors begin.
  public let dataOffset: Int
  private let file: MappedFile

  /// The whole file, as it is mapped. If another program shortens it, touching what is gone ends
  /// this process (SIGBUS).
  public var mappedBytes: UnsafeRawBufferPointer { file.bytes }

  /// - Throws: ``GGUFError``, naming the file, the place, what was expected and found.
  public init(path: String) throws(GGUFError) {
    self.path = path
    do throws(FileError) {
      file = try MappedFile(path: path)
    } catch {
      throw GGUFError(.unreadableFile, path: path, offset: 0, found: error.reason)
    }
    var cursor = GGUFCursor(file.bytes, path: path)
    version = try Self.version(&cursor)
    // Lengths, a letter, numbers of dimensions and type, offset; or a letter, type and value.
    let tensorCount = try cursor.count("tensors", minimumByteCount: 25)
    let entryCount = try cursor.count("metadata entries", minimumByteCount: 14)
    metadata = try Self.metadata(entryCount, &cursor, file: file)
    alignment = try Self.alignment(metadata, path: path)
    listOffset = cursor.offset
    let records = try Self.records(tensorCount, &cursor)
    headerByteCount = cursor.offset
    dataOffset = (cursor.offset + alignment - 1) / alignment * alignment
    tensors = try Self.tensors(
      records, dataOffset: dataOffset, alignment: alignment, path: path,
      fileByteCount: file.bytes.count)
  }

  /// The value of a metadata key; nil if there is none.
  public func value(_ key: String) -> JSONValue? {
    metadata.first { $0.key.utf8.elementsEqual(key.utf8) }?.value.json()
  }

  /// The stored bytes of `tensor`, in place, aligned to nothing.
  /// - Precondition: `tensor` is one of ``tensors``.
  public func bytes(of tensor: GGUFTensor) -> UnsafeRawBufferPointer {
    // Where there are no tensor bytes at all, an empty tensor may lie behind the end.
    tensor.byteRange.isEmpty
      ? UnsafeRawBufferPointer(start: nil, count: 0)
      : UnsafeRawBufferPointer(rebasing: file.bytes[tensor.byteRange])
  }

  /// Gives back the memory that reading `tensor` took.
  public func release(_ tensor: GGUFTensor) { file.release(tensor.byteRange) }

  private static func version(_ cursor: inout GGUFCursor) throws(GGUFError) -> Int {
    guard cursor.bytes.prefix(4).elementsEqual(magic) else {
      throw cursor.error(.notGGUF, at: 0, expected: "the letters GGUF", found: "other bytes")
    }
    try cursor.skip(4)
    let version = try cursor.integer(UInt32.self)
    switch version {
    case 2, 3: return Int(version)
    case 0x0200_0000, 0x0300_0000:
      throw cursor.error(
        .version, at: 4, expected: "little-endian numbers", found: "a big-endian file")
    default: throw cursor.error(.version, at: 4, expected: "2 or 3", found: "\(version)")
    }
  }

  private static func metadata(
    _ count: Int, _ cursor: inout GGUFCursor, file: MappedFile
  ) throws(GGUFError) -> [(key: String, value: GGUFValue)] {
    var metadata: [(key: String, value: GGUFValue)] = []
    var keys: Set<[UInt8]> = []
    for _ in 0..<count {
      let start = cursor.offset
      cursor.name = nil
      let key = try cursor.name(limit: maximumKeyByteCount)
      cursor.name = key
      guard keys.insert(Array(key.utf8)).inserted else {
        throw cursor.error(.duplicateName, at: start)
      }
      let type = try GGUFValue.type(&cursor)
      metadata.append((key, try GGUFValue(type, &cursor, file: file)))
    }
    cursor.name = nil
    return metadata
  }

  private static func alignment(
    _ metadata: [(key: String, value: GGUFValue)], path: String
  ) throws(GGUFError) -> Int {
    guard let value = metadata.first(where: { $0.key == alignmentKey })?.value else { return 32 }
    let number = value.json(limit: 0).integer
    guard value.type == .uint32, let number, number > 0, number & (number - 1) == 0 else {
      throw GGUFError(
        .alignment, path: path, offset: value.range.lowerBound, name: alignmentKey,
        expected: "a uint32 that is a power of two",
        found: number.map { "\(value.type.name) \($0)" } ?? value.type.name)
    }
    return number
  }
}
