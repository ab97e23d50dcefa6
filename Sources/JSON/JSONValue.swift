/// A JSON document in memory. Objects keep the order of their keys; whole numbers stay whole.
///
/// Whole numbers beyond the range of `Int` become `double`: published tokenizer configurations hold
/// `1000000000000000019884624838656`.
public enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  case integer(Int)
  case double(Double)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)

  /// Parses a whole document (RFC 8259, UTF-8, no duplicate keys, at most
  /// ``JSONScanner/maximumDepth`` levels deep).
  public init(parsing bytes: [UInt8]) throws(JSONError) {
    self = try bytes.withUnsafeBufferPointer { buffer throws(JSONError) in
      var scanner = JSONScanner(buffer)
      let value = try scanner.value()
      try scanner.end()
      return value
    }
  }

  /// Parses a whole document, strictly: one value and white space.
  public init(parsing text: String) throws(JSONError) {
    try self.init(parsing: Array(text.utf8))
  }

  /// The member `key` of an object; nil for other kinds and for missing members.
  public subscript(key: String) -> JSONValue? {
    if case .object(let object) = self { object[key] } else { nil }
  }

  /// The text; nil unless the value is a string.
  public var string: String? { if case .string(let value) = self { value } else { nil } }
  /// The truth value; nil unless the value is one.
  public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  /// The number; nil unless the value is a whole number.
  public var integer: Int? { if case .integer(let value) = self { value } else { nil } }
  /// The elements; nil unless the value is an array.
  public var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
  /// The members; nil unless the value is an object.
  public var object: JSONObject? { if case .object(let value) = self { value } else { nil } }
  /// Whether the value is `null`.
  public var isNull: Bool { self == .null }

  /// A number of either kind.
  public var double: Double? {
    switch self {
    case .double(let value): value
    case .integer(let value): Double(value)
    default: nil
    }
  }

  /// What this is, for error messages.
  public var kind: String {
    switch self {
    case .null: "null"
    case .bool: "a boolean"
    case .integer: "a whole number"
    case .double: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }
}

/// An object whose members keep their order.
public struct JSONObject: Sendable, Equatable {
  /// Keys, each once, and values, in the order of the document.
  public private(set) var members: [(key: String, value: JSONValue)] = []
  /// Keys are compared byte by byte: `String` equality would merge canonically equivalent keys.
  private var positions: [[UInt8]: Int] = [:]

  /// An object without members.
  public init() {}

  /// Of values with one key, the last counts.
  public init(_ members: [(key: String, value: JSONValue)]) {
    for member in members { self[member.key] = member.value }
  }

  /// Number of members.
  public var count: Int { members.count }

  /// Setting nil leaves the object as it is when `key` is missing, and removes the member otherwise.
  public subscript(key: String) -> JSONValue? {
    get { positions[Array(key.utf8)].map { members[$0].value } }
    set {
      let bytes = Array(key.utf8)
      switch (positions[bytes], newValue) {
      case (let position?, let value?): members[position].value = value
      case (nil, let value?):
        positions[bytes] = members.count
        members.append((key, value))
      case (let position?, nil):
        members.remove(at: position)
        positions = [:]
        for (index, member) in members.enumerated() { positions[Array(member.key.utf8)] = index }
      case (nil, nil): break
      }
    }
  }

  public static func == (a: JSONObject, b: JSONObject) -> Bool {
    a.members.elementsEqual(b.members) {
      $0.key.utf8.elementsEqual($1.key.utf8) && $0.value == $1.value
    }
  }
}
