public import ModelFiles
public import Quantization

/// Why a conversion ended without a slab. Whatever was written has been removed, except in the case
/// ``suspended(_:path:kept:)`` and where an ``output(_:)`` says so.
public indirect enum ConversionError: Error, Equatable, CustomStringConvertible {
  /// The source turned out not to be acceptable, as with a weight that is not finite.
  case checkpoint(CheckpointError)
  /// The recipe does not fit the checkpoint.
  case recipe(RecipeError)
  /// Importance cannot be found out.
  case calibration(CalibrationError)
  /// A tensor cannot be encoded.
  case quantization(tensor: String, QuantizationError)
  /// The output cannot be written.
  case output(SlabError)
  /// The caller asked for it.
  case cancelled(path: String)
  /// What was done (`kept`: "12 of 40 layers") is there for another run.
  case suspended(ConversionError, path: String, kept: String)

  /// Whether one of the rooms below was asked to stop.
  var isCancellation: Bool {
    switch self {
    case .quantization(_, .cancelled), .cancelled: true
    case .output(let error): error.reason == .cancelled
    default: false
    }
  }

  public var description: String {
    switch self {
    case .checkpoint(let error): "\(error)"
    case .recipe(let error): "\(error)"
    case .calibration(let error): "\(error)"
    case .quantization(let tensor, let error): "tensor \(tensor): \(error)"
    case .output(let error): "\(error)"
    case .cancelled(let path): "cancelled; \(path) has not been written"
    case .suspended(let error, let path, let kept):
      "\(error). \(kept) are kept in \(SlabWriter.partialPath(of: path)): run the same command to go on."
    }
  }
}
