import Glibc

/// The Linux calls of this room, all in one place; nothing else in it imports the C library.
///
/// Failures become a ``FileError`` with the path and the system's own words.
enum SystemCalls {
  /// What `fstat` says about an open file.
  struct Status: Equatable {
    let byteCount: Int
    let isRegular: Bool
    let device: UInt64
    let inode: UInt64
    /// Nanoseconds since the epoch at which the content changed last.
    let modificationTime: Int64

    /// Whether both describe one file, whatever names and links lead to it.
    func isSameFile(as other: Status) -> Bool { device == other.device && inode == other.inode }
  }

  static func failure(
    _ action: String, _ path: String, _ code: Int32 = errno
  ) -> FileError {
    FileError(
      path: path, reason: "cannot \(action): \(String(cString: strerror(code)))", code: code)
  }

  /// Whether `error` says that there is no such file.
  static func isMissing(_ error: FileError) -> Bool { error.code == ENOENT }

  /// Whether a write failed with `code` because there is no room.
  static func isFull(_ code: Int32) -> Bool { [ENOSPC, EDQUOT, EFBIG].contains(code) }

  // MARK: - Reading

  /// Opens a regular file; a pipe or a device is refused without waiting for it.
  static func openForReading(
    _ path: String
  ) throws(FileError) -> (descriptor: Int32, status: Status) {
    if path.utf8.contains(0) {
      throw FileError(path: path, reason: "the name contains a zero byte")
    }
    let descriptor = retrying { open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
    guard descriptor >= 0 else { throw failure("open", path) }
    do throws(FileError) {
      let status = try status(descriptor, path)
      guard status.isRegular else { throw FileError(path: path, reason: "not a regular file") }
      return (descriptor, status)
    } catch {
      Glibc.close(descriptor)
      throw error
    }
  }

  static func status(_ descriptor: Int32, _ path: String) throws(FileError) -> Status {
    var result = stat()
    guard fstat(descriptor, &result) == 0 else { throw failure("inspect", path) }
    return Status(result)
  }

  /// The status of what `path` leads to; nil if nothing is there.
  static func status(at path: String) throws(FileError) -> Status? {
    var result = stat()
    guard stat(path, &result) == 0 else {
      if errno == ENOENT { return nil }
      throw failure("inspect", path)
    }
    return Status(result)
  }

  /// Which of `inputs` the file `output` is, whatever names and links lead to them; nil if none.
  static func input(
    thatIs output: String, among inputs: [String]
  ) throws(FileError) -> String? {
    guard let status = try status(at: output) else { return nil }
    for input in inputs where try Self.status(at: input)?.isSameFile(as: status) == true {
      return input
    }
    return nil
  }

  static func isDirectory(_ path: String) -> Bool {
    var result = stat()
    return stat(path, &result) == 0 && result.st_mode & S_IFMT == S_IFDIR
  }

  /// The absolute path without links; nil where that cannot be found out.
  static func resolved(_ path: String) -> String? {
    guard let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    return String(validatingCString: resolved)
  }

  static func close(_ descriptor: Int32) { Glibc.close(descriptor) }

  /// Fills `buffer` from `offset` on; a file that ends before is an error.
  static func read(
    _ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer, at offset: Int, _ path: String
  ) throws(FileError) {
    var done = 0
    while done < buffer.count {
      let count = retrying {
        Int(pread(descriptor, buffer.baseAddress! + done, buffer.count - done, offset + done))
      }
      guard count >= 0 else { throw failure("read", path) }
      guard count > 0 else {
        throw FileError(path: path, reason: "the file became shorter while it was read")
      }
      done += count
    }
  }

  /// Maps the first `byteCount` bytes read-only; `byteCount` is positive.
  static func map(
    _ descriptor: Int32, byteCount: Int, _ path: String
  ) throws(FileError) -> UnsafeRawBufferPointer {
    let base = mmap(nil, byteCount, PROT_READ, MAP_SHARED, descriptor, 0)
    guard let base, base != MAP_FAILED else { throw failure("map", path) }
    return UnsafeRawBufferPointer(start: base, count: byteCount)
  }

  static func unmap(_ bytes: UnsafeRawBufferPointer) {
    munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
  }

  static let pageSize = Int(sysconf(Int32(_SC_PAGESIZE)))

  /// Tells the system that whole pages of a mapping are not needed for now.
  static func forget(_ bytes: UnsafeRawBufferPointer) {
    _ = madvise(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count, MADV_DONTNEED)
  }

  /// Tells the system to read pages of a mapping ahead.
  static func willNeed(_ bytes: UnsafeRawBufferPointer) {
    _ = madvise(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count, MADV_WILLNEED)
  }

  /// Reads pages of a mapping, which begin at a page, and enters them into the page tables; returns
  /// when they are there. Systems before Linux 5.14 are only told that they will be needed.
  static func populate(_ bytes: UnsafeRawBufferPointer, _ path: String) throws(FileError) {
    let base = UnsafeMutableRawPointer(mutating: bytes.baseAddress)
    if retrying({ madvise(base, bytes.count, 22 /* MADV_POPULATE_READ */) }) == 0 { return }
    // Where touching the pages would be a bus error, this is just an error.
    if errno == EFAULT || errno == EIO {
      throw FileError(
        path: path, reason: "the file became shorter while it was read, or cannot be read",
        code: errno)
    }
    willNeed(bytes)
  }

  /// Whether two buffers of one length hold the same bytes.
  static func areEqual(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Bool {
    guard let first = a.baseAddress, let second = b.baseAddress else { return true }
    return memcmp(first, second, a.count) == 0
  }

  /// The directory part of `path`; "." where there is none.
  static func directory(of path: String) -> String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// Repeats a call that a signal interrupted.
  static func retrying<Result: SignedInteger>(_ call: () -> Result) -> Result {
    while true {
      let result = call()
      if result != -1 || errno != EINTR { return result }
    }
  }
}

extension SystemCalls.Status {
  init(_ status: stat) {
    byteCount = Int(status.st_size)
    isRegular = status.st_mode & S_IFMT == S_IFREG
    device = UInt64(status.st_dev)
    inode = UInt64(status.st_ino)
    let (seconds, nanoseconds) = (Int64(status.st_mtim.tv_sec), Int64(status.st_mtim.tv_nsec))
    modificationTime = seconds &* 1_000_000_000 &+ nanoseconds
  }
}

extension SystemCalls {
  /// Memory of the machine.
  static let physicalByteCount =
    Int(sysconf(Int32(_SC_PHYS_PAGES))).multipliedReportingOverflow(by: pageSize).partialValue
}
