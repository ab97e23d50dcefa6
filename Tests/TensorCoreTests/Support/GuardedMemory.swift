import Glibc

/// Memory that ends where a page begins that nobody may touch: reading or writing past it crashes.
final class GuardedMemory {
  let bytes: UnsafeMutableRawBufferPointer
  private let base: UnsafeMutableRawPointer
  private let mappedByteCount: Int

  /// - Parameter alignment: of the first byte; the distance to the guard is less than that.
  init(byteCount: Int, alignment: Int) {
    let page = 4096
    let rounded = (byteCount + alignment - 1) / alignment * alignment
    let usable = (rounded + page - 1) / page * page
    mappedByteCount = usable + page
    base = mmap(
      nil, mappedByteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    precondition(base != MAP_FAILED && mprotect(base + usable, page, PROT_NONE) == 0)
    bytes = UnsafeMutableRawBufferPointer(
      start: base + usable - rounded, count: byteCount)
  }

  deinit { munmap(base, mappedByteCount) }

  /// `values`, ending at the guard.
  convenience init<T: BitwiseCopyable>(_ values: [T], alignment: Int = MemoryLayout<T>.alignment) {
    self.init(byteCount: values.count * MemoryLayout<T>.stride, alignment: alignment)
    values.withUnsafeBytes { bytes.copyMemory(from: $0) }
  }

  var floats: UnsafeMutablePointer<Float> { bytes.baseAddress!.assumingMemoryBound(to: Float.self) }
}

/// `count` floats that end at a guard, filled with a pattern that no kernel computes.
func guardedFloats(_ count: Int) -> GuardedMemory {
  GuardedMemory([Float](repeating: -987.654, count: count))
}

/// Equal bits, or both not a number (payloads are not specified).
func same(_ a: Float, _ b: Float) -> Bool { a.bitPattern == b.bitPattern || a.isNaN && b.isNaN }
