public import ModelFiles
import TensorCore

/// A model of random weights that look like trained ones, for any configuration: to try speed, memory
/// and formats at sizes that nobody wants to download.
///
/// Weights are Student-t distributed with heavy tails and rows of mixed scale. A few channels of the
/// residual stream are outliers: norms amplify them, and the columns that read them are larger. The
/// same configuration and seed give the same bytes everywhere.
public struct SyntheticModel: Sendable {
  /// The shape of the model.
  public let configuration: ModelConfiguration
  /// Names and shapes; a tensor's place among them is its stream of random numbers.
  let tensors: [(name: String, shape: [Int])]
  let seed: UInt64
  private let configurationJSON: [UInt8]
  private let outliers: [Int]

  /// - Parameter json: a config.json.
  /// - Throws: `ConfigurationError` when it is not supported.
  public init(configuration json: [UInt8], seed: UInt64) throws(ConfigurationError) {
    configuration = try ModelConfiguration(json: json)
    configurationJSON = json
    tensors = configuration.expectedTensors
    self.seed = seed
    let noise = Noise(seed: seed, stream: .max)
    let width = configuration.hiddenSize
    outliers = (0..<(width + 511) / 512).map { Int(noise[$0] % UInt64(width)) }
  }

  /// Bytes of all tensors in bfloat16.
  public var byteCount: Int { tensors.reduce(0) { $0 + 2 * $1.shape.reduce(1, *) } }

  /// The files that travel with the weights: config.json and `others`.
  func assets(_ others: [SlabAsset]) -> [SlabAsset] {
    [SlabAsset(name: "config.json", bytes: configurationJSON)]
      + others.filter { $0.name != "config.json" }
  }

  /// Rows `rows` of tensor `index` of ``tensors``, bfloat16, row-major; a tensor of one dimension is
  /// one row.
  func fill(
    _ elements: UnsafeMutablePointer<UInt16>, tensor index: Int, rows: Range<Int>, pool: WorkerPool
  ) {
    let (name, shape) = tensors[index]
    let columns = shape[shape.count - 1]
    let (mean, deviation, factors) = character(name, columns: columns)
    let noise = Noise(seed: seed, stream: UInt64(2 * index))
    let rowNoise = Noise(seed: seed, stream: UInt64(2 * index + 1))
    let wordsPerRow = (columns + 3) / 4
    let output = SharedPointer(elements)
    StudentT.quantiles.withUnsafeBufferPointer { quantiles in
      factors.withUnsafeBufferPointer { factors in
        pool.parallelRanges(rows.count, minimum: max(1, (1 << 14) / columns)) { range in
          for row in range {
            let source = rows.lowerBound + row
            // From half to twice the deviation.
            let exponent = Double(rowNoise[source] >> 11) * 0x1p-53 * 2 - 1
            let scale =
              shape.count == 1
              ? deviation : deviation * Float(PortableMath.exp(exponent * 0.6931))
            let line = output.pointer + row * columns
            for word in 0..<wordsPerRow {
              var bits = noise[source &* wordsPerRow &+ word]
              for column in word &* 4..<min(word &* 4 &+ 4, columns) {
                let variate = quantiles[Int(bits & 0xFFFF)]
                bits &>>= 16
                line[column] = ((mean + variate * scale) * factors[column]).bfloat16Bits
              }
            }
          }
        }
      }
    }
  }

  /// Mean, standard deviation and a factor for each column of a tensor's values.
  private func character(
    _ name: String, columns: Int
  ) -> (mean: Float, deviation: Float, factors: [Float]) {
    var factors = [Float](repeating: 1, count: columns)
    func amplify(_ factor: Float) {
      if columns == configuration.hiddenSize {
        for outlier in outliers { factors[outlier] = factor }
      }
    }
    switch TensorRole(tensorName: name)! {
    case .norm:
      amplify(8)
      return (1, 0.05, factors)
    case .bias: return (0, 0.02, factors)
    case .convolution: return (0.25, 0.15, factors)
    // Decays of all speeds, time steps of some hundredths, inputs that shine through.
    case .stateSpace:
      return name.hasSuffix(".A_log")
        ? (1.5, 0.8, factors)
        : name.hasSuffix(".D")
          ? (1, 0.3, factors) : (-3, 1, factors)
    case .embedding, .positions, .output: return (0, 0.02, factors)
    default:
      amplify(2)
      return (0, 0.7 / Float(columns).squareRoot(), factors)
    }
  }
}
