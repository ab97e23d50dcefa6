import Inference
import JSON

/// The members of a request's object, read one by one, each checked. Null counts as missing, as the
/// clients have it.
struct RequestFields {
  let object: JSONObject
  /// Where the object stands in the request, as in `messages[2].`.
  let path: String

  init(_ object: JSONObject, path: String = "") {
    self.object = object
    self.path = path
  }

  /// - Throws: ``APIError`` unless the bytes are a JSON object.
  init(body: [UInt8]) throws {
    guard let object = try JSONValue(parsing: body).object else {
      throw APIError.invalid("the body must be a JSON object")
    }
    self.init(object)
  }

  subscript(_ name: String) -> JSONValue? {
    guard let value = object[name], !value.isNull else { return nil }
    return value
  }

  func wrong(_ name: String, _ expected: String) -> APIError {
    .invalid("\(path)\(name) must be \(expected)", path + name)
  }

  private func read<T>(
    _ name: String, _ expected: String, _ convert: (JSONValue) -> T?
  ) throws(APIError) -> T? {
    guard let value = self[name] else { return nil }
    guard let result = convert(value) else { throw wrong(name, expected) }
    return result
  }

  func string(_ name: String) throws(APIError) -> String? {
    try read(name, "a string", \.string)
  }

  func bool(_ name: String) throws(APIError) -> Bool? {
    try read(name, "true or false", \.bool)
  }

  func object(_ name: String) throws(APIError) -> JSONObject? {
    try read(name, "an object", \.object)
  }

  func array(_ name: String) throws(APIError) -> [JSONValue]? {
    try read(name, "an array", \.array)
  }

  func integer(
    _ name: String, _ range: ClosedRange<Int> = .min ... .max
  ) throws(APIError) -> Int? {
    let bounds =
      range.lowerBound == .min
      ? ""
      : range.upperBound == .max
        ? " of at least \(range.lowerBound)" : " from \(range.lowerBound) to \(range.upperBound)"
    return try read(name, "a whole number" + bounds) {
      guard let value = $0.integer ?? $0.double.flatMap({ Int(exactly: $0) }) else { return nil }
      return range.contains(value) ? value : nil
    }
  }

  func number(_ name: String, _ range: ClosedRange<Double>) throws(APIError) -> Double? {
    try read(name, "a number from \(range.lowerBound) to \(range.upperBound)") {
      $0.double.flatMap { range.contains($0) ? $0 : nil }
    }
  }

  /// A string, or an array of at most `limit` strings, none of them empty or longer than 4096 bytes.
  func strings(_ name: String, limit: Int) throws(APIError) -> [String]? {
    try read(name, "a string or an array of at most \(limit) strings of 1 to 4096 bytes") {
      let texts =
        $0.string.map { [$0] }
        ?? $0.array.flatMap { values -> [String]? in
          let texts = values.compactMap(\.string)
          return texts.count == values.count ? texts : nil
        }
      guard let texts, texts.count <= limit,
        texts.allSatisfy({ (1...4096).contains($0.utf8.count) })
      else { return nil }
      return texts
    }
  }

  /// Refuses fields whose silent loss would change what the request means.
  func refuse(_ names: [String]) throws(APIError) {
    for name in names where self[name] != nil {
      throw .unsupported("\(name) is not supported by this server; leave it out", name)
    }
  }
}
