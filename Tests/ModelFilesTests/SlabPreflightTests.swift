import Foundation
import ModelFiles
import TestSupport
import Testing

/// What is said of the place of a slab before one is written.
@Suite struct SlabPreflightTests {
  private func check(
    _ path: String, replacing: Bool = false, inputs: [String] = [], bytes: Int = 1000
  ) -> SlabPreflight {
    SlabPreflight(path: path, replacing: replacing, inputs: inputs, expectedByteCount: bytes)
  }

  @Test func room() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "x.slab").path
      let usual = check(path)
      #expect(usual.problem == nil && usual.neededByteCount == 1000 + 16 << 20)
      let free = try #require(usual.availableByteCount)
      #expect(free > 16 << 20)
      guard case .insufficientSpace(let needed, _)? = check(path, bytes: 1 << 60).problem?.reason
      else {
        Issue.record("room for an exbibyte")
        return
      }
      #expect(needed == 1 << 60 + 16 << 20)
      #expect(check(path, bytes: .max).neededByteCount == .max)
      #expect(check(path, bytes: .max).problem != nil)
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
    }
  }

  @Test func places() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "x.slab").path
      try Data("a".utf8).write(to: URL(filePath: path))
      #expect(check(path).problem?.reason == .outputExists)
      #expect(check(path, replacing: true).problem == nil)
      #expect(check(path, replacing: true, inputs: [path]).problem?.reason == .outputIsInput)
      let nowhere = check(directory.appending(path: "none/x.slab").path)
      #expect(nowhere.availableByteCount == nil)
      #expect(nowhere.problem?.reason == .system(code: ENOENT))
      #expect(check(path + "/x.slab").problem?.reason == .system(code: ENOTDIR))
      #expect(check(directory.path, replacing: true).problem?.reason == .invalidInput)
      #expect(check("").problem != nil && check(directory.path + "/").problem != nil)
    }
  }
}
