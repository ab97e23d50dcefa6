import Foundation

/// What standard output is written for: how wide lines may be, and whether they have colours.
struct Screen: Sendable {
  /// Columns of the terminal; nil where there is none, and lines may have any length.
  let width: Int?
  let hasColours: Bool

  /// Colours only where a terminal shows them and nobody objects (https://no-color.org).
  static var current: Screen {
    let environment = ProcessInfo.processInfo.environment
    var size = winsize()
    guard isatty(STDOUT_FILENO) == 1 else { return Screen(width: nil, hasColours: false) }
    let isKnown =
      ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
    return Screen(
      width: isKnown ? Int(size.ws_col) : 80,
      hasColours: environment["NO_COLOR", default: ""].isEmpty && environment["TERM"] != "dumb")
  }

  /// Columns of what is drawn to scale.
  var drawingWidth: Int { max(20, min(width ?? 100, 160)) }

  /// Attributes of ECMA-48: Select Graphic Rendition.
  enum Style: Int {
    case bold = 1
    case dim = 2
    case red = 31
    case green = 32
    case yellow = 33
    case blue = 34
    case magenta = 35
    case cyan = 36
  }

  func styled(_ text: String, _ style: Style?) -> String {
    guard hasColours, let style, !text.isEmpty else { return text }
    return "\u{1B}[\(style.rawValue)m\(text)\u{1B}[0m"
  }

  func heading(_ text: String) -> String { styled(text, .bold) }

  /// A paragraph that begins with what it is about.
  func titled(_ title: String, _ text: String) -> String {
    heading(title) + paragraph(title + ": " + text).dropFirst(title.count)
  }

  /// Words in lines that are as wide as the terminal.
  /// - Parameter indent: columns before the first line, and before the others too.
  func paragraph(_ text: String, indent: Int = 0) -> String {
    guard let width = width.map({ $0 - indent }) else { return text }
    var lines = [""]
    for word in text.split(separator: " ") {
      let last = lines[lines.count - 1]
      if last.isEmpty {
        lines[lines.count - 1] = String(word)
      } else if last.count + 1 + word.count <= width {
        lines[lines.count - 1] = last + " " + word
      } else {
        lines.append(String(word))
      }
    }
    return lines.joined(separator: "\n" + String(repeating: " ", count: indent))
  }

  /// A bar of eighths of a column, `value` of `maximum` of `width` columns.
  static func bar(_ value: Double, of maximum: Double, width: Int) -> String {
    guard value > 0, maximum > 0, width > 0 else { return "" }
    let eighths = max(1, Int((min(1, value / maximum) * Double(width) * 8).rounded()))
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]
    return String(repeating: "█", count: eighths / 8) + rest
  }

  /// At most `count` characters, what is in the middle left out.
  static func shortened(_ text: String, to count: Int) -> String {
    guard text.count > count, count > 0 else { return text }
    let head = (count - 1) / 3
    return "\(text.prefix(head))…\(text.suffix(count - 1 - head))"
  }
}
