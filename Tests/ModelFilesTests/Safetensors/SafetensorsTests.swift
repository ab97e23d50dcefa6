import Foundation
import ModelFiles
import TensorCore
import TestSupport
import Testing

@Suite struct SafetensorsTests {
  typealias Bytes = SafetensorsBytes

  @Test func reads() throws {
    let header =
      "{\"__metadata__\":{\"format\":\"pt\"}," + Bytes.entry("b", "BF16", [2, 3], [4, 16]) + ","
      + Bytes.entry("a", "F32", [], [0, 4]) + "," + Bytes.entry("empty", "I64", [0, 7], [4, 4])
      + "}   "
    let file = try Bytes.open(Bytes.file(header, byteCount: 16))
    #expect(file.tensors.map(\.name) == ["a", "empty", "b"])
    #expect(file.tensors.map(\.elementType) == [.f32, nil, .bf16])
    #expect(file.tensors.map(\.byteCount) == [4, 0, 12])
    #expect(file.tensors[2].shape == [2, 3] && file.tensors[2].elementCount == 6)
    #expect(Array(file.bytes(of: file.tensors[2])) == Array(4..<16))
    #expect(file.metadata.map(\.key) == ["format"])
    file.prefetch(file.tensors[2])
    file.release(file.tensors[2])
    #expect(Array(file.bytes(of: file.tensors[2])) == Array(4..<16))
  }

  @Test func noTensorsIsAFile() throws {
    #expect(try Bytes.open(Bytes.file("{}")).tensors.isEmpty)
  }

  /// What is wrong, the file, the error and words of its text.
  static let malformed: [(String, [UInt8], CheckpointError.Reason, [String])] = {
    let f = Bytes.entry
    let one = f("w", "F32", [2], [0, 8])
    func file(_ entries: String, _ byteCount: Int) -> [UInt8] {
      Bytes.file("{" + entries + "}", byteCount: byteCount)
    }
    let deep = String(repeating: "[", count: 1000)
    return [
      ("empty", [], .headerLength, ["at least 8", "found 0"]),
      ("seven bytes", [1, 0, 0, 0, 0, 0, 0], .headerLength, ["at least 8"]),
      (
        "header past the end", Bytes.file("{}", length: 3), .headerLength, ["at most 2", "found 3"]
      ),
      ("huge header", Bytes.file("{}", length: .max), .headerLength, ["18446744073709551615"]),
      ("Int.max header", Bytes.file("{}", length: 1 << 63 - 1), .headerLength, ["at most 2"]),
      ("no header", Bytes.file(""), .malformed, ["begins with '{'", "nothing"]),
      ("an array", Bytes.file("[]"), .malformed, ["begins with '{'", "91"]),
      ("white space first", Bytes.file(" {}"), .malformed, ["begins with '{'"]),
      ("broken JSON", Bytes.file("{\"a\":"), .malformed, ["unexpected end"]),
      ("text after the header", Bytes.file("{} x"), .malformed, ["unexpected text"]),
      (
        "not UTF-8", Bytes.file("{\"", length: 6) + [0xFF] + Array("\":0".utf8).prefix(3),
        .malformed,
        ["UTF-8"]
      ),
      ("deep", Bytes.file("{\"a\":{\"shape\":\(deep)"), .malformed, []),
      ("entry no object", file("\"w\":3", 0), .malformed, ["expected an object"]),
      ("metadata no strings", file("\"__metadata__\":{\"a\":1}", 0), .malformed, []),
      ("duplicate name", file(one + "," + one, 8), .duplicateName, ["tensor w"]),
      (
        "duplicate metadata", file("\"__metadata__\":{},\"__metadata__\":{}", 0), .duplicateName, []
      ),
      (
        "duplicate field", file("\"w\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}", 0), .malformed,
        ["dtype"]
      ),
      ("unknown field", file("\"w\":{\"x\\u001b\":1}", 0), .malformed, ["x\\u{1B}"]),
      (
        "no offsets", file("\"w\":{\"dtype\":\"F32\",\"shape\":[]}", 0), .malformed,
        ["data_offsets"]
      ),
      ("unknown dtype", file(f("w", "Q4_0", [2], [0, 8]), 8), .elementType, ["tensor w", "Q4_0"]),
      ("dtype case", file(f("w", "f32", [2], [0, 8]), 8), .elementType, ["f32"]),
      ("negative dimension", file(f("w", "F32", [-2], [0, 8]), 8), .shape, ["-2"]),
      (
        "nine dimensions", file(f("w", "F32", [1, 1, 1, 1, 1, 1, 1, 1, 2], [0, 8]), 8), .shape,
        ["at most 8"]
      ),
      (
        "overflowing shape", file(f("w", "F32", [1 << 31, 1 << 31, 4], [0, 8]), 8), .shape,
        ["tensor w"]
      ),
      (
        "overflow, then nothing", file(f("w", "F32", [1 << 62, 1 << 62, 0], [0, 0]), 0), .shape, []
      ),
      ("huge dimension", file(f("w", "F32", [.max], [0, 8]), 8), .shape, []),
      ("half a byte", file(f("w", "F4", [3], [0, 1]), 1), .shape, ["12 bits"]),
      ("a fraction", file("\"w\":{\"shape\":[1.5]}", 0), .malformed, ["whole number"]),
      ("one offset", file(f("w", "F32", [2], [0]), 8), .offsets, ["[begin, end]"]),
      ("three offsets", file(f("w", "F32", [2], [0, 8, 8]), 8), .offsets, ["at most 2"]),
      ("negative offset", file(f("w", "F32", [2], [-8, 0]), 8), .offsets, ["-8"]),
      ("reversed", file(f("w", "F32", [2], [8, 0]), 8), .offsets, ["ascending"]),
      ("past the end", file(f("w", "F32", [2], [8, 16]), 8), .offsets, ["within the 8 bytes"]),
      ("offset overflow", file(f("w", "F32", [2], [.max - 7, .max]), 8), .offsets, []),
      ("too few bytes", file(f("w", "F32", [2], [0, 4]), 4), .offsets, ["8 bytes for F32", "4"]),
      ("too many bytes", file(f("w", "BF16", [2], [0, 8]), 8), .offsets, ["4 bytes for BF16"]),
      ("hole first", file(f("w", "F32", [1], [4, 8]), 8), .offsets, ["tensor w", "a hole"]),
      (
        "hole between",
        file(f("a", "F32", [1], [0, 4]) + "," + f("b", "F32", [1], [8, 12]), 12), .offsets,
        ["tensor b", "begin of 4", "found 8 (a hole)"]
      ),
      (
        "overlap", file(f("a", "F32", [2], [0, 8]) + "," + f("b", "F32", [1], [4, 8]), 8),
        .offsets, ["tensor b", "an overlap"]
      ),
      (
        "the same bytes", file(f("a", "F32", [2], [0, 8]) + "," + f("b", "F32", [2], [0, 8]), 8),
        .offsets, ["an overlap"]
      ),
      ("trailing bytes", file(one, 9), .offsets, ["found"]),
      ("truncated", file(one, 7), .offsets, ["within the 7 bytes"]),
    ]
  }()

  @Test(arguments: malformed.indices) func isRefused(index: Int) throws {
    let (name, bytes, reason, words) = Self.malformed[index]
    let error = try #require(throws: CheckpointError.self, "\(name)") { try Bytes.open(bytes) }
    #expect(error.reason == reason, "\(name): \(error)")
    #expect(error.file.hasSuffix("test.safetensors"))
    for word in words { #expect("\(error)".contains(word), "\(name): \(error)") }
  }

  /// The limit of the header, without writing such a file: it is as long as the limit, with holes.
  @Test func headerBeyondTheLimit() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "long.safetensors").path
      let length = UInt64(SafetensorsFile.maximumHeaderByteCount + 1)
      try Data(Bytes.file("{}", length: length)).write(to: URL(filePath: path))
      let handle = try #require(FileHandle(forUpdatingAtPath: path))
      try handle.truncate(atOffset: length + 100)
      let error = try #require(throws: CheckpointError.self) { try SafetensorsFile(path: path) }
      #expect(error.reason == .headerLength)
      #expect("\(error)".contains("at most 100000000"))
    }
  }

  @Test func onlyRegularFiles() throws {
    try Place.withTemporaryDirectory { directory in
      let pipe = directory.appending(path: "pipe").path
      #expect(mkfifo(pipe, 0o600) == 0)
      for path in [pipe, directory.path, directory.path + "/missing", "/dev/null", "a\u{0}b"] {
        let error = try #require(throws: CheckpointError.self) { try SafetensorsFile(path: path) }
        #expect(error.reason == .unreadableFile)
      }
    }
  }

  @Test func writesWhatItReads() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "out.safetensors").path
      var random = SplitMix64(seed: 3)
      let values = (0..<35).map { _ in random.normal() }
      try SafetensorsWriter.write(
        path: path, tensors: [("logits", [5, 7], values), ("none", [0], []), ("one", [], [2.5])],
        metadata: [("text", "quotes \" and\nlines")])
      let file = try SafetensorsFile(path: path)
      #expect(file.metadata.map(\.value) == ["quotes \" and\nlines"])
      #expect(file.tensors.map(\.shape) == [[5, 7], [0], []])
      #expect(file.bytes(of: file.tensors[0]).elementsEqual(values.withUnsafeBytes { Array($0) }))
      // Values lie aligned, for readers that map them.
      #expect(file.tensors[0].byteRange.lowerBound % 8 == 0)
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).count == 1)
    }
  }

  @Test func outputIsNoInput() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "precious").path
      try Data("precious".utf8).write(to: URL(filePath: path))
      let link = directory.appending(path: "link").path
      try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: path)
      try FileManager.default.linkItem(atPath: path, toPath: link + "2.partial")
      for output in [path, link, link + "2"] {
        let error = #expect(throws: FileError.self) {
          try SafetensorsWriter(path: output, tensors: [("a", [4])], inputs: ["/", path])
        }
        #expect(error?.reason.contains(path) == true)
      }
      #expect(try Data(contentsOf: URL(filePath: path)) == Data("precious".utf8))
    }
  }

  @Test func unfinishedWriterLeavesNothing() throws {
    try Place.withTemporaryDirectory { directory in
      do {
        let writer = try SafetensorsWriter(
          path: directory.appending(path: "out").path, tensors: [("a", [4])])
        try [1, 2].withUnsafeBufferPointer { try writer.append($0) }
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
      #expect(throws: FileError.self) {
        try SafetensorsWriter.write(path: directory.path + "/no/such/place", tensors: [])
      }
    }
  }
}
