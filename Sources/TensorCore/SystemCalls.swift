import Glibc

// What TensorCore asks Linux for, besides threads.

/// Memory from the system, in whole pages.
enum SystemPages {
  /// On x86-64 and, with pages of 4 KiB, on arm64. Weights in huge pages are read faster: there are
  /// fewer translations to look up, and hardware prefetchers do not stop at every page.
  static let hugePage = 2 << 20

  /// Address space whose pages come zeroed when they are touched.
  static func allocate(_ byteCount: Int) -> UnsafeMutableRawBufferPointer {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS
    let base = mmap(nil, byteCount, PROT_READ | PROT_WRITE, flags, -1, 0)
    guard let base, base != MAP_FAILED else { fatalError("no memory for \(byteCount) bytes") }
    return UnsafeMutableRawBufferPointer(start: base, count: byteCount)
  }

  static func free(_ pages: UnsafeMutableRawBufferPointer) {
    munmap(pages.baseAddress, pages.count)
  }

  /// A wish: where it is not granted, the pages are small.
  static func preferHugePages(_ bytes: UnsafeMutableRawBufferPointer) {
    madvise(bytes.baseAddress, bytes.count, MADV_HUGEPAGE)
  }
}

/// What Linux says about processors.
enum SystemProcessors {
  static var count: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

  /// The first kilobytes of a file of `/sys` or `/proc`, without the line break at their end; nil if
  /// it cannot be read.
  static func text(_ path: String) -> String? {
    guard let file = fopen(path, "re") else { return nil }
    defer { fclose(file) }
    var buffer = [UInt8](repeating: 0, count: 8192)
    var count = fread(&buffer, 1, buffer.count, file)
    if count > 0, buffer[count - 1] == UInt8(ascii: "\n") { count -= 1 }
    return ferror(file) == 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
  }
}
