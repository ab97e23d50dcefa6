import Conversion
import Foundation
import Inference
import ModelFiles
import Quantization
import TensorCore

/// How fast this machine is at what a conversion and its slab need, measured within a few hundredths of a
/// second each on random weights: good for an estimate and no more.
struct SpeedProbe {
  let pool: WorkerPool
  /// What computes is measured on one thread, and shared by all: short work of several threads says more
  /// about how busy the machine is.
  private let single = WorkerPool(threadCount: 1)

  init(pool: WorkerPool) { self.pool = pool }

  /// What encoding matrices costs.
  struct EncodingCost {
    let secondsPerWeight: Double
    /// For each weight of the sample that a codebook is fitted to.
    let secondsPerSample: Double
    /// Weights of the largest sample.
    static let sampleSize = 1 << 18

    /// Of a matrix of `count` weights.
    func seconds(_ count: Int) -> Double {
      Double(count) * secondsPerWeight + Double(min(count, Self.sampleSize)) * secondsPerSample
    }
  }

  /// Nil on a machine whose instruction set cannot be told.
  func encoding(_ encoding: BlockEncoding) -> EncodingCost? {
    let columns = 256
    let geometry = PanelGeometry(rows: 64, columns: columns)!
    let source = RandomWeights.matrix(geometry, .bf16, seed: 1, pool: single)
    let view = MatrixView(
      source.stream(.elements)!, elementType: .bf16, rows: geometry.rows, columns: columns)
    let importance = [Float](repeating: 1, count: columns)
    let seconds = Self.seconds {
      withExtendedLifetime(source) {
        (try? Quantizer.encode(view, as: encoding, importance: importance, pool: single)) != nil
      }
    }
    guard let seconds else { return nil }
    let perWeight = seconds / Double(geometry.rows * columns * pool.threadCount)
    // A codebook is fitted in eight steps, each of which takes about as long as encoding the sample: here
    // the whole matrix.
    return encoding.hasCodebook
      ? EncodingCost(secondsPerWeight: perWeight / 9, secondsPerSample: perWeight * 8 / 9)
      : EncodingCost(secondsPerWeight: perWeight, secondsPerSample: 0)
  }

  /// Rows of a matrix that column scales are tried on, at most.
  static let scalingRows = 64

  /// Seconds that finding column scales takes for each weight of these rows.
  func scaling(_ encoding: BlockEncoding) -> Double? {
    let (rows, columns) = (Self.scalingRows, 512)
    guard let geometry = PanelGeometry(rows: rows, columns: columns),
      let kernels = try? Kernels.selected()
    else { return nil }
    let source = RandomWeights.matrix(geometry, .bf16, seed: 1, pool: pool)
    let view = MatrixView(
      source.stream(.elements)!, elementType: .bf16, rows: rows, columns: columns)
    let inputs = (0..<64 * columns).map { Float($0 % 251) - 125 }
    let importance = (0..<columns).map { Float($0 % 7 + 1) }
    return Self.seconds {
      withExtendedLifetime(source) {
        (try? ColumnScaling.exponent(
          for: [(view, encoding)], importance: importance, inputs: inputs, kernels: kernels,
          pool: single)) != nil
      }
    }.map { $0 / Double(rows * columns * pool.threadCount) }
  }

  /// Weights times tokens that products of many tokens get through in a second, in the encoding that a
  /// calibration runs in.
  func calibrating() -> Double? {
    let tokens = 128
    let geometry = PanelGeometry(rows: 256, columns: 2048)!
    let matrix = RandomWeights.matrix(geometry, .q8b16, seed: 0, pool: single)
    return multiplying([matrix], tokens: tokens, pool: single).map {
      Double(geometry.rows * geometry.columns * tokens * pool.threadCount) / $0[0]
    }
  }

  /// Tokens per second that the products of decoding alone allow; nil where memory is too short to find
  /// out.
  ///
  /// A model that is not larger than the matrices of the probe is measured as it is. Those of larger
  /// ones are streamed from memory, at a rate that depends on the encoding.
  func decoding(_ entries: [ConversionPlan.Entry]) -> Double? {
    let total = entries.reduce(0) { $0 + $1.usedByteCount }
    guard SystemMemory.availableByteCount ?? .max > 4 * Self.decodedByteCount else { return nil }
    if total <= Self.decodedByteCount {
      let matrices = entries.enumerated().flatMap { place, entry in
        let geometry = MatrixForm(shape: entry.tensor.shape)!.geometry  // of a model's ranges
        return (0..<entry.usedMatrixCount).map { _ in
          RandomWeights.matrix(geometry, entry.encoding!, seed: UInt64(place), pool: pool)
        }
      }
      return multiplying(matrices, tokens: 1, pool: pool).map { 1 / $0.reduce(0, +) }
    }
    var amounts: [BlockEncoding: Int] = [:]
    for entry in entries { amounts[entry.encoding!, default: 0] += entry.usedByteCount }
    var seconds = 0.0
    for (encoding, amount) in amounts {
      // The gate projection of granite-3.3-2b, or a part of it.
      let rows = encoding.isQuantized ? 8192 : 2048
      let geometry = PanelGeometry(rows: rows, columns: 2048)!
      let byteCount = geometry.byteCount(in: encoding)
      let count = Self.decodedByteCount / byteCount
      let matrices = (0..<UInt64(count)).map {
        RandomWeights.matrix(geometry, encoding, seed: $0, pool: pool)
      }
      guard let times = multiplying(matrices, tokens: 1, pool: pool) else { return nil }
      // All are alike; each one is out of the caches when its turn comes.
      seconds += times.min()! / Double(byteCount) * Double(amount)
    }
    return 1 / seconds
  }

  /// Bytes of matrices that are streamed: more than most caches hold.
  private static let decodedByteCount = 96 << 20

  /// Seconds in which each matrix is multiplied with some tokens, one after the other; the best of some
  /// rounds.
  private func multiplying(
    _ matrices: [WeightMatrix], tokens: Int, pool: WorkerPool
  ) -> [Double]? {
    let columns = matrices.map(\.geometry.columns).max() ?? 0
    let rows = matrices.map(\.geometry.paddedRows).max() ?? 0
    let input = (0..<tokens * columns).map { Float($0 % 251) - 125 }
    let output = AlignedBuffer(byteCount: tokens * rows * 4)
    guard let kernels = try? Kernels.selected() else { return nil }
    // Inputs that differ in width or in the size of blocks are quantized apart, once.
    var inputs: [[Int]: Activations] = [:]
    for matrix in matrices {
      let key = [matrix.geometry.columns, matrix.encoding.blockSize ?? 0]
      if inputs[key] != nil { continue }
      let activations = Activations(maximumTokens: tokens, maximumColumns: key[0])
      guard
        (try? activations.load(
          input, tokenCount: tokens, inputStride: key[0], for: matrix, precision: .int8,
          kernels: kernels, pool: pool)) != nil
      else { return nil }
      inputs[key] = activations
    }
    let work = matrices.map {
      ($0, inputs[[$0.geometry.columns, $0.encoding.blockSize ?? 0]]!)
    }
    let clock = ContinuousClock()
    var best = Array(repeating: Double.infinity, count: matrices.count)
    let isDone = Self.seconds {
      for (place, (matrix, activations)) in work.enumerated() {
        let duration = clock.measure {
          kernels.multiply(
            matrix, activations, output: output.floats, outputStride: rows, pool: pool)
        }
        best[place] = min(best[place], max(duration / .seconds(1), 1e-9))
      }
      return true
    }
    return isDone == nil ? nil : best
  }

  /// Bytes that all threads together hash in a second.
  func hashing() -> Double {
    let bytes = [UInt8](repeating: 7, count: 1 << 18)
    let seconds = Self.seconds {
      _ = Digest(of: bytes)
      return true
    }
    return Double(bytes.count * pool.threadCount) / (seconds ?? 1)
  }

  /// Bytes of a file that are read in a second as it lies there now, in the system's cache or not; nil
  /// if it cannot be read.
  static func reading(_ path: String) -> Double? {
    guard let file = try? FileHandle(forReadingFrom: URL(filePath: path)),
      let byteCount = try? file.seekToEnd()
    else { return nil }
    let chunk = 4 << 20
    var place: UInt64 = 0
    return seconds {
      defer { place += 1 }
      let offset = byteCount > UInt64(chunk) ? place * 7919 * UInt64(chunk) % byteCount : 0
      return (try? file.seek(toOffset: offset)) != nil
        && (try? file.read(upToCount: chunk))?.isEmpty == false
    }.map { Double(min(UInt64(chunk), byteCount)) / $0 }
  }

  /// The best of at least two runs of `work` within a short time; nil once it does not succeed. On a busy
  /// machine some short run is left alone.
  private static func seconds(_ work: () -> Bool) -> Double? {
    let clock = ContinuousClock()
    let start = clock.now
    var best: Duration?
    var runs = 0
    repeat {
      var succeeded = false
      let duration = clock.measure { succeeded = work() }
      guard succeeded else { return nil }
      best = min(best ?? duration, duration)
      runs += 1
    } while runs < 2 || clock.now - start < .milliseconds(20)
    return best.map { max($0 / .seconds(1), 1e-9) }
  }
}
