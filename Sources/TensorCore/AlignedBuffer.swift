import Glibc

/// Owned memory, zeroed, aligned to a cache line (64 bytes); large buffers ask for huge pages.
///
/// Whoever creates one fills it before sharing it; afterwards it is only read, or disjoint ranges
/// are written by the workers of one parallel region.
public final class AlignedBuffer: @unchecked Sendable {  // see above
  public let base: UnsafeMutableRawPointer
  public let byteCount: Int

  /// On x86-64 and, with pages of 4 KiB, on arm64. Weights in huge pages are read faster: there are
  /// fewer translations to look up, and hardware prefetchers do not stop at every page.
  private static let hugePage = 2 << 20

  public init(byteCount: Int) {
    self.byteCount = byteCount
    let size = max(byteCount, 64)
    let isLarge = size >= 2 * Self.hugePage
    base = .allocate(byteCount: size, alignment: isLarge ? Self.hugePage : 64)
    if isLarge { madvise(base, size, MADV_HUGEPAGE) }  // a wish: without it, the pages are small
    base.initializeMemory(as: UInt8.self, repeating: 0, count: size)
  }

  deinit { base.deallocate() }

  /// The memory as float32.
  public var floats: UnsafeMutablePointer<Float> {
    base.assumingMemoryBound(to: Float.self)
  }

  public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: byteCount) }
}
