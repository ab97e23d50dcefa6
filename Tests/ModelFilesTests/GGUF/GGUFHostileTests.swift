import Foundation
import TestSupport
import Testing

@testable import ModelFiles

@Suite struct GGUFHostileTests {
  typealias Bytes = GGUFBytes

  private static let key = Bytes.string("key")
  private static let f32: UInt32 = 0

  /// What is wrong, the file, the error and words of its text.
  static let malformed: [(String, [UInt8], GGUFError.Reason, [String])] = {
    func entries(_ entries: [UInt8]...) -> [UInt8] { Bytes(entries: entries).bytes }
    func tensors(_ tensors: Bytes.Tensor..., data: Int = 64) -> [UInt8] {
      Bytes(tensors: tensors, data: data).bytes
    }
    func value(_ type: UInt32, _ bytes: [UInt8]) -> [UInt8] {
      entries(key + Bytes.number(type) + bytes)
    }
    func nested(_ depth: Int) -> [UInt8] {
      (0..<depth).reduce(Bytes.array(.uint8, count: 0, [])) { inner, _ in
        Bytes.array(.array, count: 1, inner)
      }
    }
    let huge = UInt64.max
    return [
      ("empty", [], .notGGUF, ["letters GGUF"]),
      ("other magic", Array("GGML".utf8) + [3, 0, 0, 0], .notGGUF, []),
      ("only magic", Array("GGUF".utf8), .truncated, ["4 more bytes", "found 0"]),
      ("version 1", Bytes(version: 1).bytes, .version, ["2 or 3", "found 1", "byte 4"]),
      ("version 4", Bytes(version: 4).bytes, .version, ["found 4"]),
      ("big-endian", Bytes(version: 0x0300_0000).bytes, .version, ["big-endian"]),
      ("no counts", Array(Bytes().bytes.prefix(20)), .truncated, ["8 more bytes"]),
      ("too many tensors", Bytes(tensorCount: huge).bytes, .count, ["tensors", "\(huge)"]),
      ("Int.max tensors", Bytes(tensorCount: 1 << 63 - 1).bytes, .count, []),
      ("too many entries", Bytes(entryCount: 1 << 40).bytes, .count, ["metadata entries"]),
      ("empty key", entries(Bytes.entry("", .uint32, [1, 0, 0, 0])), .name, ["1 to 65535"]),
      (
        "huge key", entries(Bytes.string("key", length: huge) + [UInt8](repeating: 0, count: 9)),
        .count, ["bytes"]
      ),
      (
        "key beyond the end",
        entries(Bytes.string("key", length: 30) + [UInt8](repeating: 0, count: 9)), .count,
        ["at most 12"]
      ),
      (
        "key no UTF-8",
        entries(Bytes.number(UInt64(1)) + [0xFF] + Bytes.number(UInt32(7)) + [1]), .name,
        ["UTF-8"]
      ),
      (
        "key twice",
        entries(Bytes.entry("key", .bool, [1]), Bytes.entry("key", .bool, [0])), .duplicateName,
        ["key:"]
      ),
      ("unknown value type", value(13, [0]), .value, ["0 to 12", "found 13"]),
      ("bool of 2", value(7, [2]), .value, ["0 or 1", "found 2", "key:"]),
      ("bool 2 in an array", value(9, Bytes.array(.bool, count: 2, [1, 2])), .value, ["0 or 1"]),
      ("cut short number", value(10, [1, 2, 3]), .truncated, ["8 more bytes", "found 3"]),
      ("huge string", value(8, Bytes.number(huge)), .count, ["bytes"]),
      ("huge array", value(9, Bytes.number(UInt32(0)) + Bytes.number(huge)), .count, ["elements"]),
      (
        "overflowing array", value(9, Bytes.number(UInt32(12)) + Bytes.number(UInt64(1) << 61)),
        .count, ["at most 0"]
      ),
      (
        "array of unknown type", value(9, Bytes.number(UInt32(99)) + Bytes.number(UInt64(0))),
        .value, ["found 99"]
      ),
      ("deep arrays", value(9, nested(4)), .value, ["4 levels"]),
      (
        "second string of an array is cut short",
        value(9, Bytes.array(.string, count: 2, Bytes.string("a") + Bytes.string("b", length: 9))),
        .count, ["at most 1"]
      ),
      (
        "alignment 0", entries(Bytes.entry("general.alignment", .uint32, [0, 0, 0, 0])),
        .alignment, ["uint32 0"]
      ),
      (
        "alignment 24", entries(Bytes.entry("general.alignment", .uint32, [24, 0, 0, 0])),
        .alignment, ["uint32 24"]
      ),
      (
        "alignment as text", entries(Bytes.entry("general.alignment", .string, Bytes.string("32"))),
        .alignment, ["found string"]
      ),
      ("tensor without name", tensors(("", [4], f32, 0)), .name, ["1 to 4096"]),
      (
        "tensor twice", tensors(("w", [4], f32, 0), ("w", [4], f32, 32)), .duplicateName, ["w:"]
      ),
      ("removed type", tensors(("w", [32], 4, 0)), .elementType, ["found 4", "w:"]),
      ("unknown type", tensors(("w", [32], 42, 0)), .elementType, ["found 42"]),
      (
        "nine dimensions", tensors(("w", [UInt64](repeating: 1, count: 9), f32, 0)), .shape,
        ["at most 8", "found 9"]
      ),
      (
        "dimensions cut short",
        Array(
          Bytes(tensors: [("w", [UInt64](repeating: 1, count: 8), f32, 0)]).bytes.dropLast(20)),
        .truncated, ["8 more bytes"]
      ),
      ("half a block", tensors(("w", [48, 2], 2, 0)), .shape, ["blocks of 32 for Q4_0", "2×48"]),
      (
        "overflowing shape", tensors(("w", [1 << 32, 1 << 32], f32, 0)), .shape,
        ["can be counted"]
      ),
      ("dimension beyond Int", tensors(("w", [huge], f32, 0)), .shape, ["can be counted"]),
      (
        "overflow before zero", tensors(("w", [0, 1 << 40, 1 << 40], f32, 0)), .shape,
        ["can be counted"]
      ),
      ("misaligned", tensors(("w", [4], f32, 16)), .offsets, ["multiple of 32", "found 16"]),
      (
        "beyond the file", tensors(("w", [17], f32, 0)), .offsets,
        ["68 bytes within the 64 bytes", "w:"]
      ),
      ("offset beyond the file", tensors(("w", [4], f32, 96)), .offsets, ["offset of 96"]),
      ("offset beyond Int", tensors(("w", [4], f32, huge - 31)), .offsets, ["\(huge - 31)"]),
      (
        "overlap", tensors(("a", [16], f32, 0), ("b", [4], f32, 32)), .offsets,
        ["at least 64", "found 32", "b:"]
      ),
      (
        "one place for two", tensors(("a", [4], f32, 0), ("b", [4], f32, 0)), .offsets,
        ["at least 16", "found 0"]
      ),
      ("no data at all", tensors(("a", [4], f32, 0), data: 0), .offsets, ["within the 0 bytes"]),
    ]
  }()

  @Test(arguments: malformed.indices) func refuses(_ index: Int) throws {
    let (label, bytes, reason, words) = Self.malformed[index]
    let error = try #require(throws: GGUFError.self, "\(label)") { try Bytes.open(bytes) }
    #expect(error.reason == reason, "\(label): \(error)")
    for word in words { #expect("\(error)".contains(word), "\(label): \(error)") }
  }

  @Test func errorsCannotSteerTheTerminal() throws {
    let error = try #require(throws: GGUFError.self) {
      try Bytes.open(Bytes(tensors: [("a\u{1B}[2J", [4], 99, 0)]).bytes)
    }
    #expect(!"\(error)".contains("\u{1B}") && "\(error)".contains("[2J"))
  }

  /// No prefix and no flipped byte of a real file makes the reader trap.
  @Test func survivesWhateverItReads() throws {
    let path = Place.goldens.appending(path: "gguf/tiny.gguf")
    let whole = Array(try Data(contentsOf: path))
    let file = try GGUFFile(path: path.path)
    var refused = 0
    var random = SplitMix64(seed: 3)
    try Place.withTemporaryDirectory { directory in
      let url = directory.appending(path: "x.gguf")
      func check(_ bytes: [UInt8]) throws {
        try Data(bytes).write(to: url)
        let opened = Result { () throws(GGUFError) in try GGUFFile(path: url.path) }
        guard let file = try? opened.get() else {
          refused += 1
          return
        }
        for (_, value) in file.metadata { _ = value.json() }
        for tensor in file.tensors { _ = (tensor.elementCount, file.bytes(of: tensor).count) }
      }
      let end = UInt64(try #require(file.tensors.last).byteRange.upperBound)
      for _ in 0..<100 { try check(Array(whole.prefix(Int(random.next() % end)))) }
      #expect(refused == 100)
      refused = 0
      for _ in 0..<600 {
        var bytes = whole
        let place = Int(random.next() % UInt64(file.headerByteCount))
        bytes[place] = UInt8(truncatingIfNeeded: random.next())
        try check(bytes)
      }
      #expect(refused > 60)
    }
  }
}
