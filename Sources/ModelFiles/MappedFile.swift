/// A regular file, mapped read-only as it was when it was opened.
///
/// The length is taken once. A file that another program shortens while it is mapped ends this
/// process at the first page that is gone, as with every mapping; growing or replacing it is
/// harmless.
public final class MappedFile: @unchecked Sendable {  // immutable; the mapping is read only
  public let path: String
  public let bytes: UnsafeRawBufferPointer
  /// What the system said of the file when it was opened.
  let status: SystemCalls.Status

  /// - Throws: ``FileError`` when `path` is missing, not readable or no regular file.
  public init(path: String) throws(FileError) {
    let descriptor: Int32
    (descriptor, status) = try SystemCalls.openForReading(path)
    defer { SystemCalls.close(descriptor) }
    self.path = path
    bytes =
      status.byteCount == 0
      ? UnsafeRawBufferPointer(start: nil, count: 0)
      : try SystemCalls.map(descriptor, byteCount: status.byteCount, path)
  }

  deinit { if !bytes.isEmpty { SystemCalls.unmap(bytes) } }

  /// Gives back the memory of the pages that lie wholly in `range`; they are read again when used.
  /// Keeps the memory of a pass over a large file constant.
  public func release(_ range: Range<Int>) {
    let page = SystemCalls.pageSize
    let range = range.clamped(to: 0..<bytes.count)
    let first = (range.lowerBound + page - 1) / page * page
    let end = range.upperBound == bytes.count ? bytes.count : range.upperBound / page * page
    if first < end { SystemCalls.forget(UnsafeRawBufferPointer(rebasing: bytes[first..<end])) }
  }

  /// Asks the system to read `range` ahead.
  public func prefetch(_ range: Range<Int>) {
    let page = SystemCalls.pageSize
    let range = range.clamped(to: 0..<bytes.count)
    let first = range.lowerBound / page * page
    if first < range.upperBound {
      SystemCalls.willNeed(UnsafeRawBufferPointer(rebasing: bytes[first..<range.upperBound]))
    }
  }
}

extension MappedFile {
  /// The whole of a small regular file, read into memory.
  /// - Throws: ``FileError``, also when the file is longer than `limit` bytes.
  public static func contents(of path: String, limit: Int) throws(FileError) -> [UInt8] {
    let (descriptor, status) = try SystemCalls.openForReading(path)
    defer { SystemCalls.close(descriptor) }
    guard status.byteCount <= limit else {
      throw FileError(
        path: path, reason: "the file has \(status.byteCount) bytes; at most \(limit) are read")
    }
    var bytes = [UInt8](repeating: 0, count: status.byteCount)
    try bytes.withUnsafeMutableBufferPointer { buffer throws(FileError) in
      try SystemCalls.read(descriptor, into: .init(buffer), at: 0, path)
    }
    return bytes
  }
}
