import JSON

/// A function that the model wants to be called.
struct ToolCall: Equatable {
  let name: String
  /// A JSON object, as text.
  let arguments: String

  /// The calls that a JSON document describes: an object with `name` and `arguments`, or an array of
  /// them; nil where it is anything else.
  static func parse(_ json: [UInt8]) -> [ToolCall]? {
    guard let value = try? JSONValue(parsing: json) else { return nil }
    var calls: [ToolCall] = []
    for object in value.array ?? [value] {
      guard let name = object["name"]?.string, !name.isEmpty else { return nil }
      let arguments = object["arguments"] ?? .object([:])
      if arguments.object != nil {
        calls.append(ToolCall(name: name, arguments: arguments.serialized()))
      } else if let text = arguments.string, (try? JSONValue(parsing: text))?.object != nil {
        calls.append(ToolCall(name: name, arguments: text))
      } else {
        return nil
      }
    }
    return calls.isEmpty ? nil : calls
  }

  /// Bytes of the object or array that `text` begins with; 0 where it begins with anything else, nil
  /// while it has not ended.
  static func jsonLength(_ text: ArraySlice<UInt8>) -> Int? {
    guard let first = text.first else { return nil }
    guard first == UInt8(ascii: "{") || first == UInt8(ascii: "[") else { return 0 }
    var (depth, inString, escaped) = (0, false, false)
    for (index, byte) in text.enumerated() {
      switch byte {
      case _ where escaped: escaped = false
      case UInt8(ascii: "\\"): escaped = inString
      case UInt8(ascii: "\""): inString.toggle()
      case _ where inString: break
      case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        depth -= 1
        if depth == 0 { return index + 1 }
      default: break
      }
    }
    return nil
  }
}
