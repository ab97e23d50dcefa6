/// A safetensors file, mapped and checked: every byte after the header belongs to exactly one
/// tensor.
///
/// The format: a little-endian 64-bit header length, the header as JSON
/// (`{"name":{"dtype":…,"shape":[…],"data_offsets":[begin,end]},…,"__metadata__":{…}}`), the bytes.
public struct SafetensorsFile: Sendable {
  /// Headers are no longer; the limit of the format's reference implementation.
  public static let maximumHeaderByteCount = 100_000_000
  /// Dimensions that a tensor may have.
  public static let maximumRank = 8

  /// Path of the file, as it was given.
  public let path: String
  /// In order of their bytes.
  public let tensors: [TensorDescriptor]
  /// The texts of `__metadata__`, in order.
  public let metadata: [(key: String, value: String)]
  private let file: MappedFile

  /// - Throws: ``CheckpointError``, naming the file, the tensor, what was expected and found.
  public init(path: String) throws(CheckpointError) {
    self.path = path
    do throws(FileError) {
      file = try MappedFile(path: path)
    } catch {
      throw CheckpointError(error)
    }
    let (header, dataStart) = try Self.header(file)
    (tensors, metadata) = try SafetensorsHeader(
      path: path, dataStart: dataStart, byteCount: file.bytes.count
    ).read(header)
  }

  /// The elements of `tensor`, in place; little-endian, aligned to nothing.
  /// - Precondition: `tensor` is one of ``tensors``.
  public func bytes(of tensor: TensorDescriptor) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: file.bytes[tensor.byteRange])
  }

  /// The whole file, as it is mapped. If another program shortens it, touching what is gone ends
  /// this process (SIGBUS).
  public var mappedBytes: UnsafeRawBufferPointer { file.bytes }

  /// What the system said of the file when it was opened.
  var status: SystemCalls.Status { file.status }

  /// Gives back the memory that reading `tensor` took.
  public func release(_ tensor: TensorDescriptor) { release(tensor.byteRange) }
  func release(_ range: Range<Int>) { file.release(range) }

  /// Asks the system to read `tensor` ahead.
  public func prefetch(_ tensor: TensorDescriptor) { file.prefetch(tensor.byteRange) }

  private static func header(
    _ file: MappedFile
  ) throws(CheckpointError) -> (UnsafeBufferPointer<UInt8>, dataStart: Int) {
    let bytes = file.bytes
    guard bytes.count >= 8 else {
      throw CheckpointError(
        .headerLength, in: file.path, expected: "at least 8 bytes", found: "\(bytes.count)")
    }
    let length = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
    let limit = min(bytes.count - 8, maximumHeaderByteCount)
    guard let count = Int(exactly: length), count <= limit else {
      throw CheckpointError(
        .headerLength, in: file.path, expected: "at most \(limit) bytes", found: "\(length)")
    }
    let header = UnsafeRawBufferPointer(rebasing: bytes[8..<8 + count])
    guard header.first == UInt8(ascii: "{") else {
      throw CheckpointError(
        .malformed, in: file.path, expected: "a header that begins with '{'",
        found: header.first.map { "the byte \($0)" } ?? "nothing")
    }
    return (header.bindMemory(to: UInt8.self), 8 + count)
  }
}
