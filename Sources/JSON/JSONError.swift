/// Why a document is not acceptable JSON, and where.
public struct JSONError: Error, Equatable, CustomStringConvertible {
  /// What is wrong, as a clause without a full stop.
  public let reason: String
  /// Byte offset in the document.
  public let offset: Int

  /// An error at byte `offset` of the document.
  public init(_ reason: String, at offset: Int) {
    self.reason = reason
    self.offset = offset
  }

  public var description: String { "\(reason) at byte \(offset)" }
}

extension String {
  /// The text of a hostile file as error messages and listings show it: control characters as
  /// escapes, at most 120 characters.
  package var shown: String { shown(atMost: 120) }

  /// The text with control characters as escapes, cut after `count` Unicode scalars.
  package func shown(atMost count: Int) -> String {
    var result = ""
    var left = count
    for scalar in unicodeScalars {
      if left == 0 { return result + "…" }
      switch scalar.properties.generalCategory {
      // What moves the cursor, colours the terminal or turns the direction of writing.
      case .control, .format, .lineSeparator, .paragraphSeparator:
        result += scalar.escaped(asASCII: true)
      default: result.unicodeScalars.append(scalar)
      }
      left -= 1
    }
    return result
  }
}
