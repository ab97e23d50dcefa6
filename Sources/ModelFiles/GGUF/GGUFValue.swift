public import JSON

/// The types of GGUF metadata. Raw values are the ids of the file format.
public enum GGUFValueType: UInt32, Sendable, CaseIterable {
  case uint8 = 0
  case int8 = 1
  case uint16 = 2
  case int16 = 3
  case uint32 = 4
  case int32 = 5
  case float32 = 6
  case bool = 7
  case string = 8
  case array = 9
  case uint64 = 10
  case int64 = 11
  case float64 = 12

  public var name: String { "\(self)" }

  /// Bytes of a value; nil where they differ from value to value.
  var byteCount: Int? {
    switch self {
    case .uint8, .int8, .bool: 1
    case .uint16, .int16: 2
    case .uint32, .int32, .float32: 4
    case .uint64, .int64, .float64: 8
    case .string, .array: nil
    }
  }

  /// The fewest bytes that a value has: a string has its length, an array its type and count.
  var minimumByteCount: Int { byteCount ?? (self == .string ? 8 : 12) }
}

/// A value of GGUF metadata. Arrays, which may hold a whole vocabulary, stay in the file until they are
/// asked for.
public struct GGUFValue: Sendable {
  /// Levels of arrays within arrays that are read.
  static let maximumDepth = 4

  public let type: GGUFValueType
  /// Type of the elements of an array.
  public let elementType: GGUFValueType?
  /// Elements of an array.
  public let count: Int?
  /// Where the value, or the first element, lies in the file.
  let range: Range<Int>
  private let file: MappedFile

  /// Checks the next value to its end and passes over it.
  init(_ type: GGUFValueType, _ cursor: inout GGUFCursor, file: MappedFile) throws(GGUFError) {
    self.type = type
    self.file = file
    if type == .array {
      let element = try Self.type(&cursor)
      let count = try cursor.count("elements", minimumByteCount: element.minimumByteCount)
      let start = cursor.offset
      try Self.skip(count, element, &cursor, depth: 1)
      elementType = element
      self.count = count
      range = start..<cursor.offset
    } else {
      let start = cursor.offset
      try Self.skip(1, type, &cursor, depth: 0)
      elementType = nil
      count = nil
      range = start..<cursor.offset
    }
  }

  static func type(_ cursor: inout GGUFCursor) throws(GGUFError) -> GGUFValueType {
    let start = cursor.offset
    let id = try cursor.integer(UInt32.self)
    guard let type = GGUFValueType(rawValue: id) else {
      throw cursor.error(.value, at: start, expected: "a type from 0 to 12", found: "\(id)")
    }
    return type
  }

  /// Passes over `count` values; there is room for the shortest ones.
  private static func skip(
    _ count: Int, _ type: GGUFValueType, _ cursor: inout GGUFCursor, depth: Int
  ) throws(GGUFError) {
    switch type {
    case .bool:
      for _ in 0..<count {
        let start = cursor.offset
        let byte = try cursor.integer(UInt8.self)
        guard byte <= 1 else {
          throw cursor.error(.value, at: start, expected: "a bool of 0 or 1", found: "\(byte)")
        }
      }
    case .string: for _ in 0..<count { _ = try cursor.string() }
    case .array:
      guard depth < maximumDepth else {
        throw cursor.error(
          .value, at: cursor.offset, expected: "at most \(maximumDepth) levels of arrays",
          found: "more")
      }
      for _ in 0..<count {
        let element = try self.type(&cursor)
        let inner = try cursor.count("elements", minimumByteCount: element.minimumByteCount)
        try skip(inner, element, &cursor, depth: depth + 1)
      }
    default: try cursor.skip(count * type.byteCount!)  // no overflow: there is room in the file
    }
  }

  /// The value as JSON. 64-bit numbers beyond the range of `Int` become doubles, bytes that are no
  /// UTF-8 the replacement character.
  ///
  /// - Parameter limit: elements of an array that are read, and of arrays within it.
  public func json(limit: Int = .max) -> JSONValue {
    var cursor = GGUFCursor(file.bytes, path: file.path, offset: range.lowerBound)
    // Everything was checked when the file was opened; a file that changed since gives null.
    guard let count, let elementType else {
      return (try? Self.read(type, &cursor, limit: limit, depth: 0)) ?? .null
    }
    let elements = try? Self.elements(count, elementType, &cursor, limit: limit, depth: 1)
    return .array(elements ?? [])
  }

  private static func elements(
    _ count: Int, _ type: GGUFValueType, _ cursor: inout GGUFCursor, limit: Int, depth: Int
  ) throws(GGUFError) -> [JSONValue] {
    var elements: [JSONValue] = []
    elements.reserveCapacity(min(count, limit))
    for _ in 0..<min(count, limit) {
      elements.append(try read(type, &cursor, limit: limit, depth: depth))
    }
    if count > limit { try skip(count - limit, type, &cursor, depth: depth) }
    return elements
  }

  private static func read(
    _ type: GGUFValueType, _ cursor: inout GGUFCursor, limit: Int, depth: Int
  ) throws(GGUFError) -> JSONValue {
    switch type {
    case .uint8: return .integer(Int(try cursor.integer(UInt8.self)))
    case .int8: return .integer(Int(try cursor.integer(Int8.self)))
    case .uint16: return .integer(Int(try cursor.integer(UInt16.self)))
    case .int16: return .integer(Int(try cursor.integer(Int16.self)))
    case .uint32: return .integer(Int(try cursor.integer(UInt32.self)))
    case .int32: return .integer(Int(try cursor.integer(Int32.self)))
    case .int64: return .integer(Int(try cursor.integer(Int64.self)))
    case .uint64:
      let value = try cursor.integer(UInt64.self)
      return Int(exactly: value).map { .integer($0) } ?? .double(Double(value))
    case .float32:
      // The shortest decimal that is this float32: 1e-05, not 9.999999747378752e-06.
      let value = Float(bitPattern: try cursor.integer(UInt32.self))
      return .double(Double("\(value)") ?? Double(value))
    case .float64: return .double(Double(bitPattern: try cursor.integer(UInt64.self)))
    case .bool: return .bool(try cursor.integer(UInt8.self) != 0)
    case .string: return .string(String(decoding: cursor.bytes[try cursor.string()], as: UTF8.self))
    case .array:
      guard depth < maximumDepth else { return .null }
      let element = try self.type(&cursor)
      let count = try cursor.count("elements", minimumByteCount: element.minimumByteCount)
      return .array(
        try elements(count, element, &cursor, limit: limit, depth: depth + 1))
    }
  }
}
