import Foundation
import JSON
import TestSupport
import Testing

@testable import ModelFiles

@Suite struct GGUFTests {
  private static let folder = Place.goldens.appending(path: "gguf")
  private static let golden = Result {
    try JSONValue(parsing: Array(Data(contentsOf: folder.appending(path: "golden.json"))))
  }

  /// What ggml's own package wrote is read as its own reader reads it.
  @Test func readsWhatGGMLWrites() throws {
    let golden = try Self.golden.get()
    let file = try GGUFFile(path: Self.folder.appending(path: "tiny.gguf").path)
    #expect(file.version == 3 && file.alignment == 32 && file.dataOffset % 32 == 0)
    let expected = try #require(golden["tensors"]?.array)
    #expect(file.tensors.count == expected.count)
    for (tensor, expected) in zip(file.tensors, expected) {
      #expect(tensor.name == expected["name"]?.string)
      #expect(tensor.type.name == expected["type"]?.string)
      #expect(tensor.shape == expected["shape"]?.array?.compactMap(\.integer))
      #expect(tensor.byteRange.lowerBound == expected["offset"]?.integer)
      #expect(tensor.byteCount == expected["bytes"]?.integer)
    }
    let metadata = try #require(golden["metadata"]?.object)
    #expect(file.metadata.map(\.key) == metadata.members.map(\.key))
    for (key, expected) in metadata.members {
      let value = try #require(file.value(key))
      // The package's reader widens float32.
      if case .double(let wide) = expected {
        let found = try #require(value.double)
        #expect(found == wide || Float(found) == Float(wide), "\(key)")
      } else {
        #expect(value == expected, "\(key)")
      }
    }
    #expect(file.value("missing") == nil)
  }

  @Test func knowsTheTypesOfGGML() throws {
    let types = try #require(try Self.golden.get()["types"]?.object)
    #expect(types.count > 30)
    for (name, numbers) in types.members {
      let numbers = numbers.array?.compactMap(\.integer) ?? []
      let type = try #require(GGUFType(id: UInt32(numbers[2])), "\(name)")
      #expect(type.name == name)
      #expect([type.blockSize, type.blockByteCount] == Array(numbers[..<2]), "\(name)")
    }
    let interleaved = GGUFType.all.filter { types[$0.name] == nil }
    #expect(interleaved.count == 6 && types.count + interleaved.count == GGUFType.all.count)
    for type in interleaved { #expect(type.blockSize == 32 && type.blockByteCount == 18) }
    #expect(Set(GGUFType.all.map(\.id)).count == GGUFType.all.count)
  }

  @Test func longArraysAreReadAsFarAsAsked() throws {
    let file = try GGUFFile(path: Self.folder.appending(path: "tiny.gguf").path)
    let tokens = try #require(
      file.metadata.first { $0.key == "tokenizer.ggml.tokens" }?.value)
    #expect(tokens.count == 300 && tokens.elementType == .string)
    #expect(tokens.json(limit: 2) == .array(["token 0", "token 1"]))
    #expect(tokens.json().array?.last == "token 299")
  }

  @Test func readsVersion2AndNestedArrays() throws {
    let inner = GGUFBytes.array(.uint8, count: 3, [1, 2, 3])
    let file = try GGUFBytes.open(
      GGUFBytes(
        version: 2,
        entries: [
          GGUFBytes.entry(
            "nested", .array, GGUFBytes.array(.array, count: 2, inner + inner)),
          GGUFBytes.entry("bytes", .string, GGUFBytes.number(UInt64(2)) + [0xFF, 0x61]),
          GGUFBytes.entry("general.alignment", .uint32, GGUFBytes.number(UInt32(64))),
        ],
        tensors: [("b", [4, 2], 0, 64), ("a", [4], 0, 0), ("empty", [0], 0, 64)], data: 96,
        alignment: 64
      ).bytes)
    #expect(file.version == 2 && file.alignment == 64)
    #expect(file.value("nested") == .array([.array([1, 2, 3]), .array([1, 2, 3])]))
    #expect(file.metadata[0].value.json(limit: 1) == .array([.array([1])]))
    #expect(file.value("bytes") == "\u{FFFD}a")
    // In the order of their bytes, row-major, the hole after `a` accepted.
    #expect(file.tensors.map(\.name) == ["a", "empty", "b"])
    #expect(file.tensors[2].shape == [2, 4] && file.tensors[2].elementCount == 8)
    #expect(Array(file.bytes(of: file.tensors[2])) == Array(64..<96))
    #expect(file.bytes(of: file.tensors[1]).isEmpty)
  }

  @Test func nothingIsAFile() throws {
    let file = try GGUFBytes.open(GGUFBytes(tensors: [("empty", [0], 2, 0)]).bytes)
    #expect(file.tensors.count == 1 && file.bytes(of: file.tensors[0]).isEmpty)
  }
}
