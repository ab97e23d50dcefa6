import CKernels

/// The best that this machine can do, as yardsticks for the kernels. Each takes well under a second.
public enum Ceilings {
  /// Bytes per second at which all threads together read memory: the best of several passes.
  ///
  /// - Parameter byteCount: allocated and read; should be several times the last cache's size.
  public static func readBandwidth(pool: WorkerPool, byteCount: Int) -> Double {
    let chunk = 1 << 18
    let chunks = max(1, byteCount / chunk)
    let memory = AlignedBuffer(byteCount: chunks * chunk)
    let read = InstructionSet.supported.last!.table?.pointee.read ?? ck_read_portably
    var best = Double.infinity
    for _ in 0..<5 {
      let duration = ContinuousClock().measure {
        pool.parallelFor(chunks) { _ = read(memory.base + $0 * chunk, Int64(chunk)) }
      }
      best = min(best, duration / .seconds(1))
    }
    return Double(chunks * chunk) / best
  }

  /// Operations per second (a multiply and an add count as two) of all threads together in int8
  /// multiply-adds that never wait for memory: the best of several runs; nil without an instruction
  /// set that has them.
  public static func int8Peak(pool: WorkerPool) -> Double? {
    guard let chains = InstructionSet.supported.last!.table?.pointee.int8_chains else { return nil }
    var best = 0.0
    for _ in 0..<5 {
      var operations: Int64 = 0
      let duration = ContinuousClock().measure {
        let pieces = pool.threadCount * 8
        pool.parallelFor(pieces) { piece in
          var sink = Int32(piece)
          let count = chains(1 << 17, &sink)
          if piece == 0 { operations = count * Int64(pieces) }
        }
      }
      best = max(best, Double(operations) / (duration / .seconds(1)))
    }
    return best
  }
}
