import Foundation
import TensorCore
import Testing

@Suite struct CeilingsTests {
  /// Memory that was never written to is one page of zeros, read from a cache again and again.
  @Test func whatIsReadHasPagesOfItsOwn() async {
    // In a process of its own, whose memory nobody else changes.
    await #expect(processExitsWith: .success) {
      func resident() throws -> Int {
        let text = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
        return Int(text.split(separator: " ")[1])! * Int(sysconf(Int32(_SC_PAGESIZE)))
      }
      let before = try resident()
      let probe = Ceilings.ReadProbe(.hugePages, byteCount: 128 << 20)!
      precondition(probe.bytesPerSecond(pool: WorkerPool(threadCount: 1)) > 0)
      let after = try resident()
      precondition(after - before > 120 << 20)
    }
  }
}
