import JSON

/// Typed, range-checked access to the members of a configuration. A member that is null counts as
/// missing, as it does for the libraries that write these files.
struct ConfigurationFields {
  /// Bytes of a configuration that are read; published ones have a few thousand.
  static let maximumByteCount = 1 << 20

  let object: JSONObject
  /// Put before field names in errors, as in `rope_parameters.`.
  var prefix = ""

  init(json: [UInt8]) throws(ConfigurationError) {
    guard json.count <= Self.maximumByteCount else {
      throw .invalid(
        field: "the document", expected: "at most \(Self.maximumByteCount) bytes",
        found: "\(json.count)")
    }
    let value: JSONValue
    do throws(JSONError) {
      value = try JSONValue(parsing: json)
    } catch {
      throw .malformed(error)
    }
    guard let object = value.object else {
      throw .invalid(field: "the document", expected: "an object", found: value.kind)
    }
    self.object = object
  }

  init(_ object: JSONObject, prefix: String) {
    self.object = object
    self.prefix = prefix
  }

  /// The member, unless it is missing or null.
  subscript(key: String) -> JSONValue? {
    guard let value = object[key], !value.isNull else { return nil }
    return value
  }

  func invalid(_ key: String, expected: String, found: String) -> ConfigurationError {
    .invalid(field: prefix + key, expected: expected, found: found)
  }

  func require<Value>(_ key: String, _ value: Value?) throws(ConfigurationError) -> Value {
    guard let value else { throw .missing(field: prefix + key) }
    return value
  }

  /// A whole number, which may be written as `12.0`.
  func integer(_ key: String, in range: ClosedRange<Int>) throws(ConfigurationError) -> Int? {
    guard let value = self[key] else { return nil }
    guard let integer = value.wholeNumber, range.contains(integer) else {
      throw invalid(
        key, expected: "a whole number from \(range.lowerBound) to \(range.upperBound)",
        found: value.shown)
    }
    return integer
  }

  /// A finite number of either spelling.
  func number(
    _ key: String, _ requirement: String = "a number",
    where accepts: (Double) -> Bool = { _ in true }
  ) throws(ConfigurationError) -> Double? {
    guard let value = self[key] else { return nil }
    guard let number = value.double, number.isFinite, accepts(number) else {
      throw invalid(key, expected: requirement, found: value.shown)
    }
    return number
  }

  /// A number that is finite and not zero as float32 too.
  func multiplier(_ key: String) throws(ConfigurationError) -> Float? {
    try number(key, "a finite number other than 0") {
      Float($0).isNormal
    }.map { Float($0) }
  }

  func bool(_ key: String) throws(ConfigurationError) -> Bool? {
    guard let value = self[key] else { return nil }
    guard let bool = value.bool else {
      throw invalid(key, expected: "true or false", found: value.shown)
    }
    return bool
  }

  func string(_ key: String) throws(ConfigurationError) -> String? {
    guard let value = self[key] else { return nil }
    guard let string = value.string else {
      throw invalid(key, expected: "a string", found: value.shown)
    }
    return string
  }

  func strings(_ key: String) throws(ConfigurationError) -> [String]? {
    guard let value = self[key] else { return nil }
    let strings = value.array?.compactMap(\.string)
    guard let strings, strings.count == value.array?.count else {
      throw invalid(key, expected: "an array of strings", found: value.shown)
    }
    return strings
  }

  /// A token id; −1, the older spelling of "none", is nil.
  func tokenID(_ key: String, vocabularySize: Int) throws(ConfigurationError) -> Int? {
    let id = try integer(key, in: -1...vocabularySize - 1)
    return id == -1 ? nil : id
  }

  /// A token id, an array of them, or nothing; sorted, each once.
  func tokenIDs(_ key: String, vocabularySize: Int) throws(ConfigurationError) -> [Int] {
    guard let value = self[key] else { return [] }
    let ids = (value.array ?? [value]).map(\.wholeNumber)
    let valid = ids.compactMap { $0 }.filter { (0..<vocabularySize).contains($0) }
    guard valid.count == ids.count else {
      throw invalid(
        key, expected: "token ids below the vocabulary size of \(vocabularySize)",
        found: value.shown)
    }
    return Set(valid).sorted()
  }

  /// Requires that `key` is missing or one of `accepted`.
  func accept(
    _ key: String, only accepted: [JSONValue], supported: String
  ) throws(ConfigurationError) {
    guard let value = self[key], !accepted.contains(value) else { return }
    throw .unsupported(field: prefix + key, found: value.shown, supported: supported)
  }
}

extension JSONValue {
  /// This value if it is whole, whichever way it is written.
  fileprivate var wholeNumber: Int? {
    switch self {
    case .integer(let value): value
    case .double(let value): Int(exactly: value)
    default: nil
    }
  }

  /// This value in an error message.
  var shown: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .integer(let value): "\(value)"
    case .double(let value): "\(value)"
    case .string(let value): "\"\(value.shown)\""
    case .array(let elements):
      elements.count <= 4
        ? "[" + elements.map(\.shown).joined(separator: ", ") + "]"
        : "an array of \(elements.count)"
    case .object(let object):
      // The member that says which kind of thing this is, where there is one.
      ["rope_type", "type", "quant_method"].lazy.compactMap { object[$0]?.string }.first
        .map { "an object of type \"\($0.shown)\"" } ?? "an object"
    }
  }
}
