import Inference
import TensorCore

/// The mean square of every column of an input, over all tokens that were seen.
struct SecondMoments {
  private var sums: [Double]
  private var tokenCount = 0

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

  /// Rounded to float32, within its range.
  var means: [Float] {
    let count = Double(max(tokenCount, 1))
    return sums.map { Float(min($0 / count, Double(Float.greatestFiniteMagnitude))) }
  }
}
