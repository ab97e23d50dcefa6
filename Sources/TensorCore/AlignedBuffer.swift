/// Owned memory, zeroed, aligned to a cache line (64 bytes).
///
/// Whoever creates one fills it before sharing it; afterwards it is only read, or disjoint ranges
/// are written by the workers of one parallel region.
public final class AlignedBuffer: @unchecked Sendable {  // see above
  public let base: UnsafeMutableRawPointer
  public let byteCount: Int

  public init(byteCount: Int) {
    self.byteCount = byteCount
    base = .allocate(byteCount: max(byteCount, 64), alignment: 64)
    base.initializeMemory(as: UInt8.self, repeating: 0, count: max(byteCount, 64))
  }

  deinit { base.deallocate() }

  /// The memory as float32.
  public var floats: UnsafeMutablePointer<Float> {
    base.assumingMemoryBound(to: Float.self)
  }

  public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: byteCount) }
}
