import Glibc

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
