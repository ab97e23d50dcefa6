import Foundation
import JSON
import TensorCore

/// What `quarry inspect` knows of a file or directory, whatever kind it is.
struct Inspection {
  let path: String
  /// `slab`, `safetensors` or `checkpoint`.
  let kind: String
  /// Named facts about the whole, in the order in which they are shown.
  let facts: [(name: String, value: JSONValue)]
  /// config.json as it lies in the file; null where there is none.
  let configuration: JSONValue
  let assets: [(name: String, byteCount: Int)]
  /// In the order of the file, or by name for a checkpoint of several.
  var tensors: [Tensor]

  struct Tensor {
    let name: String
    let shape: [Int]
    /// Element type in the checkpoint.
    let sourceType: String
    /// In a slab the encoding; elsewhere the element type.
    let encoding: String
    let layout: String
    /// Of the first byte, from the beginning of the file.
    let offset: Int
    let storedByteCount: Int
    let logicalByteCount: Int
    let statistics: ErrorStatistics?

    var elementCount: Int { shape.reduce(1, *) }
    var bitsPerWeight: Double { Double(logicalByteCount) * 8 / Double(max(1, elementCount)) }
  }

  /// Keeps the tensors whose names match a shell pattern.
  mutating func select(_ pattern: String) {
    tensors.removeAll { fnmatch(pattern, $0.name, 0) != 0 }
  }
}
