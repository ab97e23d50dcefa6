import CKernels
import Glibc

/// The best that this machine can do, as yardsticks for the kernels. They do not depend on the
/// instruction set that is in use.
public enum Ceilings {
  /// Bytes per second at which all threads together read huge pages: the best of several passes.
  ///
  /// - Parameter byteCount: allocated and read; should be many times the last cache's size.
  public static func readBandwidth(pool: WorkerPool, byteCount: Int) -> Double {
    let probe = ReadProbe(.hugePages, byteCount: byteCount)!
    return (0..<5).map { _ in probe.bytesPerSecond(pool: pool) }.max()!
  }

  /// Operations per second (a multiply and an add count as two) of all threads together in int8
  /// multiply-adds that never wait for memory: the best of several runs; nil without an instruction
  /// set that has them.
  public static func int8Peak(pool: WorkerPool) -> Double? {
    (0..<5).compactMap { _ in int8Rate(pool: pool) }.max()
  }

  /// The same of one run, long enough (50 ms) to show what the machine's other guests leave.
  public static func int8Rate(pool: WorkerPool) -> Double? {
    rate(of: InstructionSet.supported.last!.table?.pointee.int8_chains, pool: pool)
  }

  /// As ``int8Rate(pool:)``, in float32 fused multiply-adds: what attention over a cache of f32 or f16
  /// is made of.
  public static func fmaRate(pool: WorkerPool) -> Double? {
    rate(of: InstructionSet.supported.last!.table?.pointee.fma_chains, pool: pool)
  }

  private static func rate(
    of chains: ((Int64, UnsafeMutablePointer<Int32>?) -> Int64)?, pool: WorkerPool
  ) -> Double? {
    guard let chains else { return nil }
    let pieces = pool.threadCount * 8
    let counts = AlignedBuffer(byteCount: pieces * 64)  // a cache line for each piece
    let clock = ContinuousClock()
    let start = clock.now
    var rounds: Int64 = 0
    repeat {
      pool.parallelFor(pieces) { piece in
        var sink = Int32(piece)
        let operations = chains(1 << 16, &sink)
        counts.base.storeBytes(of: operations, toByteOffset: piece * 64, as: Int64.self)
      }
      rounds += 1
    } while clock.now - start < .milliseconds(50)
    let duration = clock.now - start
    let operations = (0..<pieces).reduce(0) {
      $0 + counts.base.load(fromByteOffset: $1 * 64, as: Int64.self)
    }
    return Double(operations * rounds) / (duration / .seconds(1))
  }
}

extension Ceilings {
  /// Memory that is read to learn how fast memory can be read, again and again.
  public final class ReadProbe: @unchecked Sendable {  // only read once it is made
    public enum Kind: String, Sendable, CaseIterable {
      /// Anonymous memory in huge pages, where the system has them.
      case hugePages = "huge pages"
      /// The pages of a file without a name, as those of a slab are mapped.
      case mappedFile = "mapped file"
    }

    public let kind: Kind
    private let bytes: UnsafeRawBufferPointer
    /// Nil for a mapping, which this object unmaps.
    private let owner: AlignedBuffer?
    private static let chunk = 1 << 18

    /// Nil when a file cannot be made in the temporary directory.
    ///
    /// - Parameter byteCount: rounded up to whole chunks of 256 KiB.
    public init?(_ kind: Kind, byteCount: Int) {
      self.kind = kind
      let byteCount = max(1, (byteCount + Self.chunk - 1) / Self.chunk) * Self.chunk
      switch kind {
      case .hugePages:
        let buffer = AlignedBuffer(byteCount: byteCount)
        // Pages that were only ever read are all one page of zeros, in a cache.
        for offset in stride(from: 0, to: byteCount, by: 4096) {
          buffer.base.storeBytes(of: 1, toByteOffset: offset, as: UInt8.self)
        }
        owner = buffer
        bytes = buffer.bytes
      case .mappedFile:
        guard let mapping = Self.mapTemporaryFile(byteCount) else { return nil }
        owner = nil
        bytes = mapping
      }
    }

    deinit {
      if owner == nil { munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count) }
    }

    /// Bytes per second of one pass of all threads over the whole.
    public func bytesPerSecond(pool: WorkerPool) -> Double {
      let read = InstructionSet.supported.last!.table?.pointee.read ?? ck_read_portably
      let duration = ContinuousClock().measure {
        pool.parallelFor(bytes.count / Self.chunk) {
          _ = read(bytes.baseAddress! + $0 * Self.chunk, Int64(Self.chunk))
        }
      }
      return Double(bytes.count) / (duration / .seconds(1))
    }

    /// Holes of the file become pages of the page cache when they are mapped, and never reach a disk.
    private static func mapTemporaryFile(_ byteCount: Int) -> UnsafeRawBufferPointer? {
      let directory = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
      var template = Array("\(directory)/quarry-XXXXXX".utf8CString)
      let descriptor = mkstemp(&template)
      guard descriptor >= 0 else { return nil }
      defer { close(descriptor) }
      unlink(template)
      guard ftruncate(descriptor, off_t(byteCount)) == 0 else { return nil }
      let flags = MAP_SHARED | MAP_POPULATE
      let base = mmap(nil, byteCount, PROT_READ, flags, descriptor, 0)
      guard let base, base != MAP_FAILED else { return nil }
      return UnsafeRawBufferPointer(start: base, count: byteCount)
    }
  }
}
