/// Owned memory, zeroed, aligned to a cache line (64 bytes); large buffers ask for huge pages.
///
/// Whoever creates one fills it before sharing it; afterwards it is only read, or disjoint ranges
/// are written by the workers of one parallel region.
public final class AlignedBuffer: @unchecked Sendable {  // see above
  public let base: UnsafeMutableRawPointer
  public let byteCount: Int
  /// What a large buffer lies in; nil for a small one.
  private let pages: UnsafeMutableRawBufferPointer?

  public init(byteCount: Int) {
    self.byteCount = byteCount
    let size = max(byteCount, 64)
    if size >= 2 * SystemPages.hugePage {
      // The system zeroes a page when it is touched first: many threads do that faster than one.
      let pages = SystemPages.allocate(size + SystemPages.hugePage)
      self.pages = pages
      base = pages.baseAddress!.alignedUp(toMultipleOf: SystemPages.hugePage)
      SystemPages.preferHugePages(UnsafeMutableRawBufferPointer(start: base, count: size))
    } else {
      pages = nil
      base = .allocate(byteCount: size, alignment: 64)
      base.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    }
  }

  deinit {
    if let pages { SystemPages.free(pages) } else { base.deallocate() }
  }

  /// The memory as float32.
  public var floats: UnsafeMutablePointer<Float> {
    base.assumingMemoryBound(to: Float.self)
  }

  public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: byteCount) }
}
