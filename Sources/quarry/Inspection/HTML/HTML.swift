import JSON

/// Markup. Text between the marks is taken as it is; what is interpolated is escaped, unless it is
/// markup itself. Names of files are hostile: this type is the only way into the page.
struct HTML: ExpressibleByStringInterpolation {
  private(set) var text: String

  init(stringLiteral text: String) { self.text = text }
  init(stringInterpolation: StringInterpolation) { text = stringInterpolation.text }

  /// Text of several lines, each as it is.
  init(lines text: String) {
    self.text = text.split(separator: "\n", omittingEmptySubsequences: false)
      .map { Self.escaped(String($0)) }.joined(separator: "\n")
  }

  /// What this program ships as a style or a script.
  init(trusted text: String) { self.text = text }

  struct StringInterpolation: StringInterpolationProtocol {
    var text = ""

    init(literalCapacity: Int, interpolationCount: Int) {}
    mutating func appendLiteral(_ literal: String) { text += literal }
    mutating func appendInterpolation(_ value: String) { text += HTML.escaped(value) }
    mutating func appendInterpolation(_ value: Int) { text += "\(value)" }
    mutating func appendInterpolation(_ value: HTML) { text += value.text }
    mutating func appendInterpolation(_ values: [HTML]) { values.forEach { text += $0.text } }
    /// A coordinate, to a hundredth.
    mutating func appendInterpolation(_ value: Double) {
      let rounded = (value * 100).rounded() / 100
      text += rounded == rounded.rounded() ? "\(Int(rounded))" : "\(rounded)"
    }
    mutating func appendInterpolation(json value: JSONValue) { text += HTML.embedded(value) }
  }

  static func + (left: HTML, right: HTML) -> HTML { HTML(trusted: left.text + right.text) }

  /// For elements and attributes; invisible characters, which could turn the direction of writing,
  /// become visible.
  private static func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.shown(atMost: .max).unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "'": result += "&#39;"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// JSON inside of a script element, which ends at the first `</script` and which `<!--` changes;
  /// in JSON, these characters are in strings only.
  private static func embedded(_ value: JSONValue) -> String {
    var result = ""
    for scalar in value.serialized().unicodeScalars {
      switch scalar {
      case "<", ">", "&", "\u{2028}", "\u{2029}":
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}

extension ScreenTable {
  /// In a box of its own that scrolls where the page is narrower.
  func html(_ caption: String) -> HTML {
    let kept = columns.indices.filter { column in rows.contains { !$0[column].isEmpty } }
    func cell(_ column: Int, _ tag: HTML, _ text: String) -> HTML {
      let style: HTML = columns[column].isRight ? " class=\"number\"" : ""
      return "<\(tag)\(style)>\(text)</\(tag)>"
    }
    let head = kept.map { cell($0, "th", columns[$0].title) }
    let body = rows.enumerated().map { index, row -> HTML in
      let style: HTML = hasTotal && index == rows.count - 1 ? " class=\"total\"" : ""
      return "<tr\(style)>\(kept.map { cell($0, "td", row[$0]) })</tr>\n"
    }
    return """
      <div class="scroller" role="region" tabindex="0" aria-label="\(caption)"><table>
      <thead><tr>\(head)</tr></thead><tbody>\(body)</tbody></table></div>
      """
  }
}
