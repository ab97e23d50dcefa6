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

  /// A field's value; nil where it is missing.
  func read<T>(_ field: RequestField<T>) throws(APIError) -> T? {
    guard let value = self[field.name] else { return nil }
    guard let result = field.convert(value) else { throw wrong(field.name, field.expected) }
    return result
  }

  func string(_ name: String) throws(APIError) -> String? { try read(.string(name)) }

  func array(_ name: String) throws(APIError) -> [JSONValue]? { try read(.array(name)) }

  /// Refuses fields whose silent loss would change what the request means.
  func refuse(_ names: [String]) throws(APIError) {
    for name in names where self[name] != nil {
      throw .unsupported("\(name) is not supported by this server; leave it out", name)
    }
  }
}
