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

  func matrices(named name: String, pool: WorkerPool) throws -> [WeightMatrix] {
    try checkpoint.encode(name, as: .q8b16, pool: pool, isCancelled: isCancelled).weights.matrices
  }

  func vector(named name: String) throws -> [Float] { try checkpoint.values(named: name) }
}

extension Checkpoint {
  /// A matrix, or those of the experts, in another encoding.
  ///
  /// - Parameter importance: of the columns of each matrix, or empty.
  /// - Throws: ``ConversionError``, which names a weight that is not finite.
  func encode(
    _ name: String, as encoding: BlockEncoding, importance: [[Float]] = [],
    columnScales: ColumnScales? = nil, pool: WorkerPool,
    isCancelled: @escaping @Sendable () -> Bool
  ) throws(ConversionError) -> (weights: WeightTensor, statistics: ErrorStatistics) {
    let matrices: [MatrixView]
    do throws(CheckpointError) {
      matrices = try self.matrices(named: name)
    } catch {
      throw .checkpoint(error)
    }
    do throws(QuantizationError) {
      return try Quantizer.encode(
        matrices, as: encoding, importance: importance, columnScales: columnScales, pool: pool,
        isCancelled: isCancelled)
    } catch .nonFinite(let row, let column) {
      let index = row * matrices[0].columns + column
      throw .checkpoint(nonFinite(descriptor(named: name)!, index: index))
    } catch {
      throw .quantization(tensor: name, error)
    }
  }
}
