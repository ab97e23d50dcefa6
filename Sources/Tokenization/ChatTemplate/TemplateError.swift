import JSON

/// Why a chat template cannot be parsed or rendered, and where.
public struct TemplateError: Error, Equatable, CustomStringConvertible {
  /// What is wrong, as a clause without a full stop. Names the construct that is not supported.
  public let message: String
  /// Line of the template, from 1.
  public let line: Int

  /// An error at a line of the template, counted from 1.
  public init(_ message: String, line: Int) {
    self.message = message
    self.line = line
  }

  public var description: String { "chat template, line \(line): \(message.shown(atMost: 1000))" }
}

/// The bounds that keep a hostile template from hanging the program or exhausting its memory.
/// Real templates stay below a hundredth of each.
struct TemplateLimits: Sendable {
  /// UTF-8 bytes of a template.
  static let sourceBytes = 1 << 20
  /// Nesting of statements and expressions in the source.
  static let sourceDepth = 100
  /// Nesting of statements, expressions and macro calls while rendering.
  static let renderDepth = 300
  /// Nesting of lists and dictionaries.
  static let valueDepth = 200
  /// Arguments of one call, and parameters of one macro.
  static let arguments = 1000
  /// What a list element counts as, in bytes.
  static let elementBytes = 32
  /// Elements of one `range`; the same as Jinja's sandbox allows.
  static let rangeCount = 100_000

  /// Statements, expressions and list elements visited in one rendering.
  var steps = 2_000_000
  /// Bytes of text, lists and output that one rendering reads or builds.
  var bytes = 1 << 27
}
