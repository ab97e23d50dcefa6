/// Why a document is not acceptable JSON, and where.
public struct JSONError: Error, Equatable, CustomStringConvertible {
  /// What is wrong, as a clause without a full stop.
  public let reason: String
  /// Byte offset in the document.
  public let offset: Int

  public init(_ reason: String, at offset: Int) {
    self.reason = reason
    self.offset = offset
  }

  public var description: String { "\(reason) at byte \(offset)" }
}
