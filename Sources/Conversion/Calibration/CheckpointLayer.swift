import Inference
import ModelFiles
import Quantization
import TensorCore

/// Weights of a checkpoint as a calibration runs them: 8-bit blocks of 16, which change next to nothing
/// and have fast kernels everywhere.
struct CheckpointLayer: WeightSource {
  let checkpoint: Checkpoint
  let isCancelled: @Sendable () -> Bool

  var path: String { checkpoint.directory }

  func shape(ofTensor name: String) -> [Int]? { checkpoint.descriptor(named: name)?.shape }

  func matrix(named name: String, pool: WorkerPool) throws -> WeightMatrix {
    try checkpoint.encode(name, as: .q8b16, pool: pool, isCancelled: isCancelled).matrix
  }

  func vector(named name: String) throws -> [Float] { try checkpoint.values(named: name) }
}

extension Checkpoint {
  /// A matrix in another encoding.
  ///
  /// - Throws: ``ConversionError``, which names a weight that is not finite.
  func encode(
    _ name: String, as encoding: BlockEncoding, importance: [Float]? = nil,
    columnScales: ColumnScales? = nil, pool: WorkerPool,
    isCancelled: @escaping @Sendable () -> Bool
  ) throws(ConversionError) -> (matrix: WeightMatrix, statistics: ErrorStatistics) {
    let matrix: MatrixView
    do throws(CheckpointError) {
      matrix = try self.matrix(named: name)
    } catch {
      throw .checkpoint(error)
    }
    do throws(QuantizationError) {
      return try Quantizer.encode(
        matrix, as: encoding, importance: importance, columnScales: columnScales, pool: pool,
        isCancelled: isCancelled)
    } catch .nonFinite(let row, let column) {
      throw .checkpoint(nonFinite(descriptor(named: name)!, index: row * matrix.columns + column))
    } catch {
      throw .quantization(tensor: name, error)
    }
  }
}
