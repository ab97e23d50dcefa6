import Conversion
import Foundation
import Inference
import Quantization
import TensorCore

/// How fast this machine is at what a conversion and its slab need, measured within fractions of a
/// second on random weights: good for an estimate and no more.
struct SpeedProbe {
  let pool: WorkerPool

  /// Weights that are quantized in a second, or rounded for an unquantized encoding; nil on a machine
  /// whose instruction set cannot be told.
  func quantizing(_ encoding: BlockEncoding) -> Double? {
    let geometry = PanelGeometry(rows: 512, columns: 2048)!
    let count = geometry.rows * geometry.columns
    let source = RandomWeights.matrix(geometry, .bf16, seed: 1, pool: pool)
    let view = MatrixView(
      source.stream(.elements)!, elementType: .bf16, rows: geometry.rows, columns: geometry.columns)
    return Self.rate(of: Double(count), within: .milliseconds(60)) {
      withExtendedLifetime(source) {
        (try? Quantizer.encode(view, as: encoding, pool: pool)) != nil
      }
    }
  }

  /// Bytes of streams that one token's products get through in a second; nil where memory is too short
  /// to find out.
  func decoding(_ encoding: BlockEncoding) -> Double? {
    let byteCount = Self.projection.byteCount(in: encoding)
    // Together more than most caches hold.
    let count = max(2, (256 << 20) / byteCount)
    guard SystemMemory.availableByteCount ?? .max > 4 * count * byteCount else { return nil }
    return multiplying(count, encoding, tokens: 1).map { $0 * Double(byteCount) }
  }

  /// Weights times tokens that products of many tokens get through in a second, in the encoding that a
  /// calibration runs in.
  func calibrating() -> Double? {
    let (rows, columns, tokens) = (Self.projection.rows, Self.projection.columns, 256)
    return multiplying(1, .q8b16, tokens: tokens).map { $0 * Double(rows * columns * tokens) }
  }

  /// The gate projection of granite-3.3-2b.
  private static let projection = PanelGeometry(rows: 8192, columns: 2048)!

  /// Matrices that are multiplied with some tokens in a second, `count` different ones in turn.
  private func multiplying(_ count: Int, _ encoding: BlockEncoding, tokens: Int) -> Double? {
    let (rows, columns) = (Self.projection.paddedRows, Self.projection.columns)
    let matrices = (0..<UInt64(count)).map {
      RandomWeights.matrix(Self.projection, encoding, seed: $0, pool: pool)
    }
    let activations = Activations(maximumTokens: tokens, maximumColumns: columns)
    let input = (0..<tokens * columns).map { Float($0 % 251) - 125 }
    let output = AlignedBuffer(byteCount: tokens * rows * 4)
    guard let kernels = try? Kernels.selected(),
      (try? activations.load(
        input, tokenCount: tokens, inputStride: columns, for: matrices[0], precision: .int8,
        kernels: kernels, pool: pool)) != nil
    else { return nil }
    return Self.rate(of: Double(count), within: .milliseconds(60)) {
      for matrix in matrices {
        kernels.multiply(
          matrix, activations, output: output.floats, outputStride: rows, pool: pool)
      }
      return true
    }
  }

  /// Bytes of a file that are read in a second as it lies there now, in the system's cache or not; nil
  /// if it cannot be read.
  static func reading(_ path: String) -> Double? {
    guard let file = try? FileHandle(forReadingFrom: URL(filePath: path)),
      let byteCount = try? file.seekToEnd()
    else { return nil }
    let chunk = 4 << 20
    var place: UInt64 = 0
    return rate(of: Double(chunk), within: .milliseconds(80)) {
      defer { place += 1 }
      let offset = byteCount > UInt64(chunk) ? place * 7919 * UInt64(chunk) % byteCount : 0
      return (try? file.seek(toOffset: offset)) != nil
        && (try? file.read(upToCount: chunk))?.isEmpty == false
    }
  }

  /// The best of at least two runs of `work`, which says whether it succeeded.
  private static func rate(
    of amount: Double, within limit: Duration, _ work: () -> Bool
  ) -> Double? {
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
    } while runs < 2 || clock.now - start < limit
    return best.map { amount / max($0 / .seconds(1), 1e-9) }
  }
}
