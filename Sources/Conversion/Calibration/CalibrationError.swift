public import Inference
public import TensorCore

/// Why a calibration cannot be done.
public enum CalibrationError: Error, Equatable, CustomStringConvertible {
  /// There is nothing to run, or nothing to run it with; why, as a clause.
  case impossible(reason: String)
  /// A text without tokens.
  case emptyText
  /// Statistics that cannot be read, or are not of this model.
  case statistics(reason: String)
  /// Saved hidden states that are not of this conversion.
  case state
  /// The text could not be run: an activation was not finite, or there is too little memory.
  case run(InferenceError)
  /// `QUARRY_ISA` names an instruction set that is unknown or that the machine lacks.
  case instructionSet(InstructionSetError)

  public var description: String {
    switch self {
    case .impossible(let reason): "nothing can be calibrated: \(reason)"
    case .emptyText: "the calibration text has no tokens; --calibration none goes without"
    case .statistics(let reason): "the statistics cannot be used: \(reason)"
    case .state: "the saved hidden states are damaged or of another conversion"
    case .run(let error):
      "the model cannot read the calibration text: \(error); --calibration none converts without it"
    case .instructionSet(let error): error.description
    }
  }
}
