public import ModelFiles
public import TensorCore

extension ImportanceStatistics {
  /// Runs a calibration's text through a checkpoint, a layer at a time, without converting anything.
  ///
  /// - Parameters:
  ///   - calibration: with a text.
  ///   - progress: called before every layer and at the end, with the number of layers that are done and
  ///     that of all.
  ///   - isCancelled: asked often, on any thread; once true, it ends with
  ///     ``ConversionError/cancelled(path:)``, which names the checkpoint.
  /// - Throws: ``ConversionError``, also where a conversion would go without calibration.
  public static func gather(
    _ checkpoint: Checkpoint, calibration: Calibration, pool: WorkerPool,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in },
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) throws(ConversionError) -> ImportanceStatistics {
    let prepared: PreparedCalibration
    do throws(CalibrationError) {
      prepared = try PreparedCalibration(calibration, of: checkpoint)
      switch prepared {
      case .source(.tokens): break
      case .source(.statistics), .unwanted: throw .impossible(reason: "there is no text to run")
      case .impossible(let reason): throw .impossible(reason: reason)
      }
    } catch {
      throw .calibration(error)
    }
    guard case .source(let source) = prepared else { preconditionFailure("checked above") }
    let calibrator = try Calibrator(
      checkpoint, source: source, pool: pool, keepsAll: true, isCancelled: isCancelled)
    let layerCount = checkpoint.configuration.layerCount
    // Names of tensors by layer, so that pages can be given back.
    let tensors = Dictionary(grouping: checkpoint.tensors) { TensorRole.layer(ofTensor: $0.name) }
    for layer in 0..<layerCount {
      progress(layer, layerCount)
      for tensor in tensors[layer + 1] ?? [] { checkpoint.prefetch(tensor) }
      do throws(ConversionError) {
        try calibrator.advance(to: .layer(layer))
      } catch {
        throw error.isCancellation ? .cancelled(path: checkpoint.directory) : error
      }
      for tensor in tensors[layer] ?? [] { checkpoint.release(tensor) }
    }
    try calibrator.advance(to: .vectors)
    progress(layerCount, layerCount)
    return calibrator.statistics
  }
}
