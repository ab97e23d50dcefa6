import Foundation
import TestSupport

@testable import ModelFiles

/// Builds GGUF files, right and wrong ones.
struct GGUFBytes {
  typealias Tensor = (name: String, dimensions: [UInt64], type: UInt32, offset: UInt64)

  var version: UInt32 = 3
  /// Whatever the counts should say; nil for the truth.
  var tensorCount: UInt64?
  var entryCount: UInt64?
  var entries: [[UInt8]] = []
  var tensors: [Tensor] = []
  /// Bytes of tensors, behind the padding.
  var data = 0
  var alignment = 32

  var bytes: [UInt8] {
    var result = GGUFFile.magic + Self.number(version)
    result += Self.number(tensorCount ?? UInt64(tensors.count))
    result += Self.number(entryCount ?? UInt64(entries.count))
    for entry in entries { result += entry }
    for tensor in tensors {
      result += Self.string(tensor.name) + Self.number(UInt32(tensor.dimensions.count))
      for dimension in tensor.dimensions { result += Self.number(dimension) }
      result += Self.number(tensor.type) + Self.number(tensor.offset)
    }
    if data > 0 {
      while result.count % alignment != 0 { result.append(0) }
      result += (0..<data).map { UInt8(truncatingIfNeeded: $0) }
    }
    return result
  }

  static func number(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }

  static func string(_ text: String, length: UInt64? = nil) -> [UInt8] {
    number(length ?? UInt64(text.utf8.count)) + Array(text.utf8)
  }

  static func entry(_ key: String, _ type: GGUFValueType, _ value: [UInt8]) -> [UInt8] {
    string(key) + number(type.rawValue) + value
  }

  static func array(_ type: GGUFValueType, count: Int, _ elements: [UInt8]) -> [UInt8] {
    number(type.rawValue) + number(UInt64(count)) + elements
  }

  static func open(_ bytes: [UInt8]) throws -> GGUFFile {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "x.gguf").path
      try Data(bytes).write(to: URL(filePath: path))
      return try GGUFFile(path: path)  // the mapping outlives the name
    }
  }
}
