/// The methods that Python's types have: those that work here, those that Jinja's sandbox hides
/// because they change their object, and the others, which are an error that names them.
struct TemplateMethods {
  var supported: Set<String> = []
  var unsafe: Set<String> = []
  var unsupported: Set<String> = []

  static func of(_ value: TemplateValue) -> TemplateMethods {
    switch value {
    case .string: string
    case .object: object
    case .array: array
    case .tuple: tuple
    case .integer, .bool: integer
    case .double: double
    case .view: TemplateMethods(unsupported: ["isdisjoint", "mapping"])
    case .range: TemplateMethods(unsupported: ["count", "index"])
    case .macro: macro
    case .iterator:
      TemplateMethods(unsupported: ["close", "send", "throw", "gi_running", "gi_yieldfrom"])
    case .loop: TemplateMethods(unsupported: ["depth", "depth0"])
    case .undefined, .none, .namespace, .function, .method: TemplateMethods()
    }
  }

  private static let string = TemplateMethods(
    supported: [
      "capitalize", "count", "endswith", "find", "index", "isalpha", "isdigit", "islower",
      "isspace", "isupper", "join", "lower", "lstrip", "partition", "removeprefix",
      "removesuffix", "replace", "rfind", "rpartition", "rsplit", "rstrip", "split", "splitlines",
      "startswith", "strip", "title", "upper",
    ],
    unsupported: [
      "casefold", "center", "encode", "expandtabs", "format", "format_map", "isalnum", "isascii",
      "isdecimal", "isidentifier", "isnumeric", "isprintable", "istitle", "ljust", "maketrans",
      "rindex", "rjust", "swapcase", "translate", "zfill",
    ])
  private static let object = TemplateMethods(
    supported: ["copy", "get", "items", "keys", "values"],
    unsafe: ["clear", "pop", "popitem", "setdefault", "update"], unsupported: ["fromkeys"])
  private static let array = TemplateMethods(
    supported: ["copy", "count", "index"],
    unsafe: ["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"])
  private static let tuple = TemplateMethods(supported: ["count", "index"])
  private static let integer = TemplateMethods(unsupported: [
    "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes",
    "imag", "numerator", "real", "to_bytes",
  ])
  private static let double = TemplateMethods(unsupported: [
    "as_integer_ratio", "conjugate", "fromhex", "hex", "imag", "is_integer", "real",
  ])
  private static let macro = TemplateMethods(unsupported: [
    "arguments", "caller", "catch_kwargs", "catch_varargs", "explicit_caller", "name",
  ])
}

extension TemplateInterpreter {
  mutating func call(
    method name: String, of receiver: TemplateValue, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    switch receiver {
    case .string(let text): return try self.call(stringMethod: name, of: text, call)
    case .object(let object): return try self.call(name, of: object, call)
    case .array(let list), .tuple(let list): return try self.call(name, of: list, receiver, call)
    default: throw failure("a value of type '\(receiver.typeName)' has no method '\(name)'")
    }
  }

  private mutating func call(
    _ name: String, of object: TemplateObject, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    if name == "get" {
      let bound = try bind(call, name, ["key", "default"], required: 1, positionalOnly: true)
      return object[try requiredKey(bound[0]!)] ?? bound[1] ?? .none
    }
    _ = try bind(call, name, [], positionalOnly: true)
    if name == "copy" { return .object(object) }
    return .view(object, name == "keys" ? .keys : name == "values" ? .values : .items)
  }

  private mutating func call(
    _ name: String, of list: TemplateList, _ receiver: TemplateValue, _ call: TemplateCall
  ) throws(TemplateError) -> TemplateValue {
    if name == "copy" {
      _ = try bind(call, name, [], positionalOnly: true)
      return receiver
    }
    guard call.positional.count == 1, call.keywords.isEmpty else {
      throw failure("'\(name)' of a list is supported with one argument")
    }
    var count = 0
    for (index, element) in list.elements.enumerated()
    where try isEqual(element, call.positional[0]) {
      if name == "index" { return .integer(index) }
      count += 1
    }
    guard name == "count" else { throw failure("'index' does not find the value in the list") }
    return .integer(count)
  }
}
