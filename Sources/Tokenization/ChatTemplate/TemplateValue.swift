import JSON

/// A value of the template language, with the meaning that Python gives it.
///
/// Things with identity (iterators, namespaces, macros, loops) are indexes into tables of the
/// interpreter, so that values form trees: no cycles, and freeing one cannot recurse deeper than
/// ``TemplateLimits/valueDepth``.
enum TemplateValue: Sendable {
  /// Carries the message of the error that using it raises.
  case undefined(String)
  case none
  case bool(Bool)
  case integer(Int)
  case double(Double)
  case string(TemplateText)
  case array(TemplateList)
  case tuple(TemplateList)
  case object(TemplateObject)
  indirect case range(TemplateRange)
  /// What `keys()`, `values()` and `items()` of a dictionary return.
  case view(TemplateObject, View)
  /// What lazy filters return in Python: it can be walked once.
  case iterator(Int)
  case namespace(Int)
  case macro(Int)
  case loop(Int)
  case function(Function)
  indirect case method(TemplateValue, String)

  enum View: String, Sendable {
    case keys = "dict_keys"
    case values = "dict_values"
    case items = "dict_items"
  }

  /// Functions that every template can call.
  enum Function: String, Sendable, CaseIterable {
    case range, dict, namespace
    case raiseException = "raise_exception"
    case strftimeNow = "strftime_now"
    /// Jinja has them; calling them is an error here.
    case lipsum, cycler, joiner
  }

  static func text(_ string: String) -> TemplateValue { .string(TemplateText(string)) }

  /// Levels of lists and dictionaries.
  var depth: Int {
    switch self {
    case .array(let list), .tuple(let list): list.depth
    case .object(let object), .view(let object, _): object.depth
    case .method(let receiver, _): receiver.depth
    default: 0
    }
  }

  var isUndefined: Bool { if case .undefined = self { true } else { false } }

  /// Python's name of the type, for error messages.
  var typeName: String {
    switch self {
    case .undefined: "Undefined"
    case .none: "NoneType"
    case .bool: "bool"
    case .integer: "int"
    case .double: "float"
    case .string: "str"
    case .array: "list"
    case .tuple: "tuple"
    case .object: "dict"
    case .range: "range"
    case .view(_, let view): view.rawValue
    case .iterator: "generator"
    case .namespace: "Namespace"
    case .macro: "Macro"
    case .loop: "LoopContext"
    case .function: "function"
    case .method: "builtin_function_or_method"
    }
  }

  /// A document as Python's `json.loads` would give it; nil where it is nested too deeply.
  init?(_ json: JSONValue, depth: Int = 0) {
    guard depth < TemplateLimits.valueDepth else { return nil }
    switch json {
    case .null: self = .none
    case .bool(let value): self = .bool(value)
    case .integer(let value): self = .integer(value)
    case .double(let value): self = .double(value)
    case .string(let value): self = .text(value)
    case .array(let elements):
      var values: [TemplateValue] = []
      values.reserveCapacity(elements.count)
      for element in elements {
        guard let value = TemplateValue(element, depth: depth + 1) else { return nil }
        values.append(value)
      }
      self = .array(TemplateList(values))
    case .object(let members):
      var object = TemplateObject.Builder()
      for (key, member) in members.members {
        guard let value = TemplateValue(member, depth: depth + 1) else { return nil }
        let text = TemplateText(key)
        object.set(.string(text), key: .text(text), to: value)
      }
      self = .object(TemplateObject(object))
    }
  }
}

/// The elements of a list or tuple, and how deeply they are nested.
struct TemplateList: Sendable {
  let elements: [TemplateValue]
  let depth: Int

  init(_ elements: [TemplateValue]) {
    self.elements = elements
    var deepest = 0
    for element in elements { deepest = max(deepest, element.depth) }
    depth = deepest + 1
  }
}

/// An arithmetic progression of at most ``TemplateLimits/rangeCount`` numbers.
struct TemplateRange: Sendable {
  let start: Int
  let stop: Int
  let step: Int
  let count: Int

  subscript(index: Int) -> Int { start + index * step }

  /// What stands at `index`, which may lie beyond the ends; nil where that overflows.
  func bound(_ index: Int) -> Int? {
    let (distance, isTooLong) = index.multipliedReportingOverflow(by: step)
    let (bound, isTooFar) = start.addingReportingOverflow(distance)
    return isTooLong || isTooFar ? nil : bound
  }

  var values: [TemplateValue] { (0..<count).map { .integer(self[$0]) } }
}

/// What makes two dictionary keys the same: Python's `hash` and `==`, by which 1, 1.0 and True are
/// one key.
enum TemplateKey: Hashable, Sendable {
  case undefined
  case none
  case integer(Int)
  case double(Double)
  case text(TemplateText)
  case tuple([TemplateKey])
  case identity(String, Int)

  /// Nil for values that cannot be keys, and for tuples, whose elements the caller must count.
  init?(_ value: TemplateValue) {
    switch value {
    case .undefined: self = .undefined
    case .none: self = .none
    case .bool(let value): self = .integer(value ? 1 : 0)
    case .integer(let value): self = .integer(value)
    case .double(let value): self = Int(exactly: value).map { .integer($0) } ?? .double(value)
    case .string(let text): self = .text(text)
    case .namespace(let index): self = .identity("namespace", index)
    case .macro(let index): self = .identity("macro", index)
    case .loop(let index): self = .identity("loop", index)
    case .iterator(let index): self = .identity("iterator", index)
    case .function(let function): self = .identity(function.rawValue, 0)
    case .range(let range):
      // Ranges are equal that give the same numbers.
      let step = range.count > 1 ? range.step : 0
      self = .identity("range \(range.count) \(step)", range.count > 0 ? range.start : 0)
    case .tuple, .array, .object, .view, .method: return nil
    }
  }
}

/// A dictionary whose entries keep their order.
final class TemplateObject: Sendable {
  let keys: [TemplateValue]
  let values: [TemplateValue]
  let depth: Int
  private let positions: [TemplateKey: Int]

  init(_ builder: Builder) {
    keys = builder.keys
    values = builder.values
    positions = builder.positions
    var deepest = 0
    for value in values { deepest = max(deepest, value.depth) }
    for key in keys { deepest = max(deepest, key.depth) }
    depth = deepest + 1
  }

  var count: Int { keys.count }

  subscript(key: TemplateKey) -> TemplateValue? { positions[key].map { values[$0] } }

  func items() -> [TemplateValue] {
    zip(keys, values).map { .tuple(TemplateList([$0, $1])) }
  }

  func elements(_ view: TemplateValue.View) -> [TemplateValue] {
    switch view {
    case .keys: keys
    case .values: values
    case .items: items()
    }
  }

  /// A dictionary in the making.
  struct Builder {
    private(set) var keys: [TemplateValue] = []
    private(set) var values: [TemplateValue] = []
    private(set) var positions: [TemplateKey: Int] = [:]

    init() {}

    init(_ object: TemplateObject) {
      keys = object.keys
      values = object.values
      positions = object.positions
    }

    subscript(key: TemplateKey) -> TemplateValue? { positions[key].map { values[$0] } }

    /// Replaces the value of an equal key, which stays as it was first written.
    mutating func set(_ name: TemplateValue, key: TemplateKey, to value: TemplateValue) {
      if let position = positions[key] {
        values[position] = value
      } else {
        positions[key] = keys.count
        keys.append(name)
        values.append(value)
      }
    }
  }
}
