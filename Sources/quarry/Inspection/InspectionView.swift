import JSON

/// One way to look at a file: a section of the text, a member of the JSON (formats/inspect.md).
protocol InspectionView {
  /// Name of the member.
  var name: String { get }
  var json: JSONValue { get }
  func text(_ screen: Screen) -> String
}

extension JSONValue {
  /// Nil becomes null.
  static func optional(_ value: Int?) -> JSONValue { value.map { .integer($0) } ?? .null }
  static func optional(_ value: Double?) -> JSONValue { value.map { .double($0) } ?? .null }
  static func optional(_ value: String?) -> JSONValue { value.map { .string($0) } ?? .null }

  /// The shortest decimal that is this float32; NaN and infinities as strings.
  static func float(_ value: Float) -> JSONValue {
    guard value.isFinite else { return .string("\(value)") }
    return .double(Double("\(value)") ?? Double(value))
  }

  /// For people: strings without quotes and without what a terminal would obey.
  var plain: String {
    switch self {
    case .string(let text): text.shown
    case .array(let elements): elements.map(\.plain).joined(separator: ", ")
    default: serialized()
    }
  }

  /// As a document that a terminal shows and never obeys: what could move the cursor or turn the
  /// direction of writing is escaped, which changes nothing for programs.
  var printable: String {
    var text = ""
    for scalar in serialized(indented: true).unicodeScalars {
      if (" "..."~").contains(scalar) {
        text.unicodeScalars.append(scalar)
        continue
      }
      switch scalar.properties.generalCategory {
      case .control where scalar != "\n", .format, .lineSeparator, .paragraphSeparator:
        for unit in String(scalar).utf16 {
          let digits = String(unit, radix: 16)
          text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        }
      default: text.unicodeScalars.append(scalar)
      }
    }
    return text
  }
}

extension Format {
  /// A shape or a slice: `4096×1024`; `scalar` without dimensions.
  static func shape(_ shape: [Int]) -> String {
    shape.isEmpty ? "scalar" : shape.map { "\($0)" }.joined(separator: "×")
  }

  /// `2.53 B`, `135 M`, `7.4 K`.
  static func count(_ value: Int) -> String {
    for (size, unit) in [(1e9, "B"), (1e6, "M"), (1e3, "K")] where Double(value) >= size {
      return significant(Double(value) / size) + " " + unit
    }
    return "\(value)"
  }

  static func percent(_ part: Int, of whole: Int) -> String {
    whole > 0 ? decimal(100 * Double(part) / Double(whole), 1) + " %" : ""
  }
}

extension TensorGroupText {
  static func encodings(_ encodings: [(name: String, count: Int)]) -> String {
    encodings.count == 1
      ? encodings[0].name : encodings.map { "\($0.name)×\($0.count)" }.joined(separator: " ")
  }
}

/// Words for sums of tensors.
enum TensorGroupText {}
