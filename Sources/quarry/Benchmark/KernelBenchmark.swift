import Conversion
import Foundation
import JSON
import TensorCore

/// Matrix products alone, for every quantized encoding: what a kernel reaches of its ceiling, before
/// norms, attention and threads that wait for each other take their part.
struct KernelBenchmark {
  let kernels: Kernels
  let pool: WorkerPool
  let repetitions: Int

  struct Figure {
    let encoding: BlockEncoding
    /// Tokens that the weights are multiplied with at once.
    let tokens: Int
    /// Up to this many tokens, reading the weights binds, beyond it arithmetic.
    static let fewTokens = 8
    /// Bytes of weights or int8 operations, for few tokens or more.
    let pairs: PairedRates

    var unit: String {
      tokens <= Self.fewTokens ? "bytes_per_second" : "operations_per_second"
    }
  }

  /// The gate projection of granite-3.3-2b.
  private static let geometry = PanelGeometry(rows: 8192, columns: 2048)!
  private static let tokenCounts = [1, 4, 8, 256]

  /// - Parameter progress: called before every figure, with the number of those done and of all.
  func run(progress: (Int, Int, BlockEncoding) throws -> Void) throws -> [Figure] {
    let encodings = BlockEncoding.allCases.filter(\.isQuantized)
    let probe = Ceilings.ReadProbe(.hugePages, byteCount: 2 << 30)!
    var figures: [Figure] = []
    for encoding in encodings {
      let byteCount = Self.geometry.byteCount(in: encoding)
      // Together many times the size of a cache.
      let matrices = (0..<UInt64((512 << 20) / byteCount)).map {
        RandomWeights.matrix(Self.geometry, encoding, seed: $0, pool: pool)
      }
      for tokens in Self.tokenCounts {
        try progress(figures.count, encodings.count * Self.tokenCounts.count, encoding)
        let isFew = tokens <= Figure.fewTokens
        let used = isFew ? matrices : Array(matrices.prefix(4))
        let work =
          isFew ? byteCount : 2 * Self.geometry.rows * Self.geometry.columns * tokens
        let pairs = try PairedRates(repetitions) {
          isFew ? probe.bytesPerSecond(pool: pool) : Ceilings.int8Rate(pool: pool)
        } run: {
          Double(work * used.count) / (try seconds(used, tokens: tokens))
        }
        figures.append(Figure(encoding: encoding, tokens: tokens, pairs: pairs))
      }
    }
    return figures
  }

  /// Multiplies all matrices with the same activations, which are quantized before.
  private func seconds(_ matrices: [WeightMatrix], tokens: Int) throws -> Double {
    let geometry = Self.geometry
    let activations = Activations(maximumTokens: tokens, maximumColumns: geometry.columns)
    let input = (0..<tokens * geometry.columns).map { Float($0 % 251) - 125 }
    try activations.load(
      input, tokenCount: tokens, inputStride: geometry.columns, for: matrices[0],
      precision: .int8, kernels: kernels, pool: pool)
    let output = AlignedBuffer(byteCount: tokens * geometry.paddedRows * 4)
    // The system gives memory when it is touched, which takes a twentieth of the time of the products.
    output.floats.initialize(repeating: 0, count: tokens * geometry.paddedRows)
    let duration = ContinuousClock().measure {
      for matrix in matrices {
        kernels.multiply(
          matrix, activations, output: output.floats, outputStride: geometry.paddedRows,
          pool: pool)
      }
    }
    return duration / .seconds(1)
  }
}

extension [KernelBenchmark.Figure] {
  var json: JSONValue {
    .array(
      map { figure in
        .object(
          JSONObject(
            [("encoding", .string(figure.encoding.name)), ("tokens", .integer(figure.tokens))]
              + figure.pairs.members(unit: figure.unit)))
      })
  }

  /// A table for people.
  var text: String {
    let rows = map { figure in
      let (scale, unit) = figure.unit == "bytes_per_second" ? (1e9, "GB/s") : (1e12, "Top/s")
      func rate(_ value: Double) -> String { "\(Format.decimal(value / scale, 2)) \(unit)" }
      func percent(_ value: Double) -> String { Format.decimal(value * 100, 1) }
      let share = figure.pairs.share
      return [
        figure.encoding.name, "\(figure.tokens)", rate(figure.pairs.median),
        figure.pairs.ceiling.map(rate) ?? "", share.map { percent($0.median) + " %" } ?? "",
        share.map { "\(percent($0.range.lowerBound))–\(percent($0.range.upperBound))" } ?? "",
      ]
    }
    return Format.table(
      ["encoding", "tokens", "rate", "ceiling", "share", "spread"], rows, right: [1, 2, 3, 4, 5])
  }
}
