import JSON

/// A member of a request's object: how it is read, and what the API's description says of it.
struct RequestField<Value>: DescribedField {
  let name: String
  /// As the end of "it must be …".
  let expected: String
  /// By JSON Schema, but for null, which every field takes for nothing.
  let schema: JSONObject
  /// The value; nil for what it may not be.
  let convert: @Sendable (JSONValue) -> Value?

  init(
    _ name: String, _ expected: String, _ schema: JSONObject,
    convert: @escaping @Sendable (JSONValue) -> Value?
  ) {
    (self.name, self.expected, self.schema, self.convert) = (name, expected, schema, convert)
  }
}

/// A field of any kind, as far as descriptions are concerned.
protocol DescribedField: Sendable {
  var name: String { get }
  var schema: JSONObject { get }
}

extension RequestField where Value == String {
  static func string(_ name: String) -> Self {
    Self(name, "a string", ["type": "string"]) { $0.string }
  }

  static func choice(_ name: String, _ values: [String]) -> Self {
    let list = values.dropLast().joined(separator: ", ") + " or " + values.last!
    return Self(
      name, list, ["type": "string", "enum": .array(values.map { .string($0) })]
    ) { value in value.string.flatMap { values.contains($0) ? $0 : nil } }
  }
}

extension RequestField where Value == Bool {
  static func bool(_ name: String) -> Self {
    Self(name, "true or false", ["type": "boolean"]) { $0.bool }
  }
}

extension RequestField where Value == JSONObject {
  /// - Parameter schema: of its members.
  static func object(_ name: String, _ schema: JSONObject = ["type": "object"]) -> Self {
    Self(name, "an object", schema) { $0.object }
  }
}

extension RequestField where Value == [JSONValue] {
  /// - Parameter items: the schema of each.
  static func array(
    _ name: String, _ items: JSONObject = [:], expected: String = "an array",
    _ count: ClosedRange<Int> = 0 ... .max
  ) -> Self {
    Self(
      name, expected,
      [
        "type": "array", "items": .object(items),
        "minItems": count.lowerBound > 0 ? .integer(count.lowerBound) : nil,
        "maxItems": count.upperBound < .max ? .integer(count.upperBound) : nil,
      ]
    ) { $0.array.flatMap { count.contains($0.count) ? $0 : nil } }
  }
}

extension RequestField where Value == Int {
  /// A whole number, which may be written as 1.0 too.
  static func integer(_ name: String, _ range: ClosedRange<Int> = .min ... .max) -> Self {
    let bounds =
      range.lowerBound == .min
      ? ""
      : range.upperBound == .max
        ? " of at least \(range.lowerBound)" : " from \(range.lowerBound) to \(range.upperBound)"
    return Self(
      name, "a whole number" + bounds,
      [
        "type": "integer", "minimum": .integer(range.lowerBound),
        "maximum": .integer(range.upperBound),
      ]
    ) {
      guard let value = $0.integer ?? $0.double.flatMap({ Int(exactly: $0) }) else { return nil }
      return range.contains(value) ? value : nil
    }
  }
}

extension RequestField where Value == Double {
  static func number(_ name: String, _ range: ClosedRange<Double>) -> Self {
    Self(
      name, "a number from \(range.lowerBound) to \(range.upperBound)",
      [
        "type": "number", "minimum": .double(range.lowerBound),
        "maximum": .double(range.upperBound),
      ]
    ) { $0.double.flatMap { range.contains($0) ? $0 : nil } }
  }
}

extension RequestField where Value == [String] {
  /// A string, or an array of at most `limit` strings, none of them empty or longer than 4096 bytes.
  static func strings(_ name: String, limit: Int) -> Self {
    // Schemas count characters, of which the longest take four bytes.
    let text: JSONValue = .object(["type": "string", "minLength": 1, "maxLength": 1024])
    return Self(
      name, "a string or an array of at most \(limit) strings of 1 to 4096 bytes",
      [
        "oneOf": .array([
          text, .object(["type": "array", "items": text, "maxItems": .integer(limit)]),
        ])
      ]
    ) { value in
      let texts = value.string.map { [$0] } ?? value.array?.map { $0.string ?? "" }
      guard let texts, texts.count <= limit,
        texts.allSatisfy({ (1...4096).contains($0.utf8.count) })
      else { return nil }
      return texts
    }
  }
}
