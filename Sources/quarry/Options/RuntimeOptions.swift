import ArgumentParser
import TensorCore

/// What computes.
struct RuntimeOptions: ParsableArguments {
  @Option(
    parsing: .unconditional, help: "Threads to use (default: one for each physical core).")
  var threads: Int?

  func validate() throws {
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads must be from 1 to 1024, not \(threads).")
    }
  }

  func makePool() -> WorkerPool {
    WorkerPool(threadCount: threads ?? ProcessorLimits.current.threadCount)
  }
}
