import Inference
import TensorCore

/// The mean square of every column of an input, over all tokens that were seen.
struct SecondMoments {
  private var sums: [Double]
  private(set) var tokenCount = 0

  init(columns: Int) { sums = [Double](repeating: 0, count: columns) }

  /// Adds the tokens of an input, in order: the same sums for any number of threads.
  mutating func add(_ input: ObservedInput, pool: WorkerPool) {
    precondition(input.columns == sums.count)
    sums.withUnsafeMutableBufferPointer { buffer in
      let sums = SharedPointer(buffer.baseAddress!)
      pool.parallelRanges(input.columns, minimum: 256) { columns in
        for token in 0..<input.tokenCount {
          let row = input.rows + token * input.stride
          for column in columns {
            let value = Double(row[column])
            sums.pointer[column] += value * value
          }
        }
      }
    }
    tokenCount += input.tokenCount
  }

  mutating func add(_ other: SecondMoments) {
    for column in sums.indices { sums[column] += other.sums[column] }
    tokenCount += other.tokenCount
  }

  /// Rounded to float32, within its range.
  func means() -> [Float] {
    let count = Double(max(tokenCount, 1))
    return sums.map { Self.rounded($0 / count) }
  }

  /// The same with some tokens more, whose squares are the means of `prior`; where that has seen
  /// nothing, all columns count alike.
  func means(prior: SecondMoments, of count: Double) -> [Float] {
    zip(sums, prior.sums).map { sum, all in
      let mean = prior.tokenCount > 0 ? all / Double(prior.tokenCount) : 1
      return Self.rounded((sum + count * mean) / (Double(tokenCount) + count))
    }
  }

  private static func rounded(_ mean: Double) -> Float {
    Float(min(mean, Double(Float.greatestFiniteMagnitude)))
  }
}
