import Glibc

/// Calls that change files.
extension SystemCalls {
  /// Refuses an output that nothing can be renamed to, before work is put into it.
  static func checkName(ofOutput path: String) throws(FileError) {
    guard !path.isEmpty, !path.hasSuffix("/") else {
      throw FileError(path: path.isEmpty ? "''" : path, reason: "the output is not a file name")
    }
  }

  /// Refuses an output that is there already.
  static func checkMissing(_ path: String) throws(FileError) {
    guard try status(at: path) == nil else {
      throw FileError(path: path, reason: "it exists already; choose another output")
    }
  }

  /// Refuses an output that the disk has no room for.
  static func checkSpace(for byteCount: Int, _ path: String) throws(FileError) {
    let needed = byteCount + PartialFile.margin
    let available = try freeBytes(in: directory(of: path))
    guard needed <= available else {
      throw FileError(
        path: path,
        reason: "not enough free disk space (expected \(needed) bytes, found \(available) bytes); "
          + "free some, or write to another disk")
    }
  }

  /// Refuses a directory that is none, or where no file can be made.
  static func checkWritable(_ directory: String) throws(FileError) {
    guard access(directory, W_OK | X_OK) == 0 else { throw failure("write into", directory) }
    guard isDirectory(directory) else {
      throw FileError(path: directory, reason: "not a directory")
    }
  }

  static func write(
    _ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, at offset: Int, _ path: String
  ) throws(FileError) {
    var done = 0
    while done < bytes.count {
      FaultPoint.pass(.writing(path: path, offset: offset, done: done, count: bytes.count))
      // Tests end the process in the middle of writes, too.
      let left = bytes.count - done
      let next = done == 0 && FaultPoint.isObserved(path) ? (left + 1) / 2 : left
      let count = retrying {
        Int(pwrite(descriptor, bytes.baseAddress! + done, next, off_t(offset + done)))
      }
      guard count > 0 else { throw failure("write", path) }
      done += count
    }
  }

  /// Waits until the file is on the disk.
  static func synchronize(_ descriptor: Int32, _ path: String) throws(FileError) {
    FaultPoint.pass(.synchronizing(path: path))
    guard retrying({ fsync(descriptor) }) == 0 else { throw failure("flush", path) }
    FaultPoint.pass(.synchronized(path: path))
  }

  /// Renames over `target`, and waits until the directory is on the disk.
  static func rename(_ path: String, to target: String) throws(FileError) {
    FaultPoint.pass(.renaming(path: path, to: target))
    guard Glibc.rename(path, target) == 0 else { throw failure("rename to \(target)", path) }
    let directory = Self.directory(of: target)
    let descriptor = retrying { open(directory, O_RDONLY | O_CLOEXEC | O_DIRECTORY) }
    guard descriptor >= 0 else { throw failure("open", directory) }
    defer { Glibc.close(descriptor) }
    // Some network file systems cannot do this for directories, and say so.
    guard retrying({ fsync(descriptor) }) == 0 || errno == EINVAL else {
      throw failure("flush", directory)
    }
    FaultPoint.pass(.renamed(path: path, to: target))
  }

  static func remove(_ path: String) {
    FaultPoint.pass(.removing(path: path))
    unlink(path)
  }

  /// Cuts an open file to `byteCount` bytes.
  static func truncate(_ descriptor: Int32, to byteCount: Int, _ path: String) throws(FileError) {
    guard retrying({ ftruncate(descriptor, off_t(byteCount)) }) == 0 else {
      throw failure("shorten", path)
    }
  }

  /// Bytes that a user without privileges may still write in the file system of `directory`.
  static func freeBytes(in directory: String) throws(FileError) -> Int {
    var result = statvfs()
    guard statvfs(directory, &result) == 0 else { throw failure("inspect", directory) }
    let (bytes, overflow) = Int(clamping: result.f_bavail)
      .multipliedReportingOverflow(by: Int(clamping: result.f_frsize))
    return overflow ? Int.max : bytes
  }

  /// Opens `path` for reading and writing as the only one: creates it, or takes over what an
  /// interrupted run left there. The lock (`flock`) goes with the descriptor, however the process
  /// ends.
  /// - Parameter emptying: whether what is there goes away.
  /// - Returns: nil if another process holds the lock.
  /// - Throws: ``FileError``, also if `path` is a symbolic link, no regular file, or has other
  ///   names: emptying it could destroy something else.
  static func createExclusively(
    _ path: String, emptying: Bool = true
  ) throws(FileError) -> Int32? {
    if path.utf8.contains(0) {
      throw FileError(path: path, reason: "the name contains a zero byte")
    }
    while true {
      let flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK
      let descriptor = retrying { open(path, flags, 0o666) }
      guard descriptor >= 0 else { throw failure("create", path) }
      do throws(FileError) {
        guard retrying({ flock(descriptor, LOCK_EX | LOCK_NB) }) == 0 else {
          if errno != EWOULDBLOCK { throw failure("lock", path) }
          Glibc.close(descriptor)
          return nil
        }
        var opened = stat()
        guard fstat(descriptor, &opened) == 0 else { throw failure("inspect", path) }
        // Another process may have renamed the file between opening and locking it.
        guard try status(at: path)?.isSameFile(as: Status(opened)) == true else {
          Glibc.close(descriptor)
          continue
        }
        guard opened.st_mode & S_IFMT == S_IFREG, opened.st_nlink == 1 else {
          throw FileError(path: path, reason: "not a file of its own; remove it first")
        }
        if emptying { try truncate(descriptor, to: 0, path) }
        return descriptor
      } catch {
        Glibc.close(descriptor)
        throw error
      }
    }
  }

  /// Gives an open file the permissions of another, if there is one and this process may.
  static func copyPermissions(of path: String, to descriptor: Int32) {
    var other = stat()
    guard stat(path, &other) == 0 else { return }
    _ = fchmod(descriptor, other.st_mode & 0o777)
  }

  /// Writes a small file that nobody else knows yet, and waits until it is on the disk.
  static func writeFile(_ path: String, _ bytes: [UInt8]) throws(FileError) {
    guard let descriptor = try createExclusively(path) else {
      throw FileError(path: path, reason: "another process is writing this file")
    }
    defer { Glibc.close(descriptor) }
    try bytes.withUnsafeBufferPointer { buffer throws(FileError) in
      try write(descriptor, UnsafeRawBufferPointer(buffer), at: 0, path)
    }
    try synchronize(descriptor, path)
  }

  // MARK: - Directories

  /// Makes a directory, unless there is one.
  static func createDirectory(_ path: String) throws(FileError) {
    if path.utf8.contains(0) {
      throw FileError(path: path, reason: "the name contains a zero byte")
    }
    guard mkdir(path, 0o777) == 0 || errno == EEXIST else { throw failure("create", path) }
  }

  /// Opens a directory, no link, as the only one; the lock (`flock`) goes with the descriptor.
  /// - Returns: nil if another process holds the lock.
  static func lockDirectory(_ path: String) throws(FileError) -> Int32? {
    let descriptor = retrying { open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW) }
    guard descriptor >= 0 else { throw failure("open", path) }
    guard retrying({ flock(descriptor, LOCK_EX | LOCK_NB) }) == 0 else {
      let code = errno
      Glibc.close(descriptor)
      if code == EWOULDBLOCK { return nil }
      throw failure("lock", path, code)
    }
    return descriptor
  }

  /// The names in a directory; none where it cannot be read.
  static func names(in directory: String) -> [String] {
    guard let stream = opendir(directory) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }

  /// Removes an empty directory.
  static func removeDirectory(_ path: String) {
    FaultPoint.pass(.removing(path: path))
    rmdir(path)
  }
}
