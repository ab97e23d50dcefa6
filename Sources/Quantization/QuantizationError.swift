public import TensorCore

/// Why a matrix could not be encoded.
public enum QuantizationError: Error, Equatable, CustomStringConvertible {
  /// A weight is NaN or infinite, or becomes so by rounding to bf16 or by division by its column
  /// scale. The first one in row-major order.
  case nonFinite(row: Int, column: Int)
  /// A dimension is not positive or larger than the format can express.
  case unsupportedShape(rows: Int, columns: Int)
  /// Importance needs one value for each column.
  case importanceCount(expected: Int, found: Int)
  /// An importance is negative, NaN or infinite.
  case invalidImportance(column: Int, value: Float)
  /// Column scales need one value for each column.
  case columnScaleCount(expected: Int, found: Int)
  /// A column scale is not a positive number between 2^−126 and 2^126.
  case invalidColumnScale(column: Int, value: Float)
  /// Unquantized encodings have no column scales.
  case columnScalesNotSupported(BlockEncoding)
  /// `QUARRY_ISA` names an instruction set that is unknown or that the machine lacks.
  case instructionSet(InstructionSetError)
  /// The caller asked for it.
  case cancelled

  public var description: String {
    switch self {
    case .nonFinite(let row, let column):
      "the weight at row \(row), column \(column) is not finite, or not after rounding or division "
        + "by its column scale"
    case .unsupportedShape(let rows, let columns):
      "a matrix of \(rows) rows and \(columns) columns cannot be stored: rows must be from 1 to "
        + "2^31, columns from 1 to 2^24"
    case .importanceCount(let expected, let found):
      "expected the importance of \(expected) columns, found \(found)"
    case .invalidImportance(let column, let value):
      "the importance of column \(column) is \(value); expected a finite number that is not "
        + "negative"
    case .columnScaleCount(let expected, let found):
      "expected the scales of \(expected) columns, found \(found)"
    case .invalidColumnScale(let column, let value):
      "the scale of column \(column) is \(value); expected a positive number between 2^-126 and "
        + "2^126"
    case .columnScalesNotSupported(let encoding):
      "\(encoding.name) matrices have no column scales"
    case .instructionSet(let error): error.description
    case .cancelled: "cancelled"
    }
  }
}
