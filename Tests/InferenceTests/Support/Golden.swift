import Foundation
import JSON
import ModelFiles
import TensorCore

/// A small safetensors file, read for tests: reference results hold types that checkpoints do not.
struct Golden {
  private let tensors: [String: (type: String, shape: [Int], bytes: [UInt8])]

  init(_ url: URL) throws {
    let file = [UInt8](try Data(contentsOf: url))
    let headerEnd = 8 + file[..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
    let header = try JSONValue(parsing: Array(file[8..<headerEnd]))
    var tensors: [String: (String, [Int], [UInt8])] = [:]
    for (name, value) in header.object!.members where name != "__metadata__" {
      let offsets = value["data_offsets"]!.array!.map { $0.integer! + headerEnd }
      tensors[name] = (
        value["dtype"]!.string!, value["shape"]!.array!.map { $0.integer! },
        Array(file[offsets[0]..<offsets[1]])
      )
    }
    self.tensors = tensors
  }

  func floats(_ name: String) -> [Float] {
    let tensor = tensors[name]!
    precondition(tensor.type == "F32")
    return tensor.bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
  }

  func ids(_ name: String) -> [Int32] {
    let tensor = tensors[name]!
    precondition(tensor.type == "I64")
    return tensor.bytes.withUnsafeBytes { $0.bindMemory(to: Int64.self).map { Int32($0) } }
  }
}
