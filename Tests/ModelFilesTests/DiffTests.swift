import Foundation
import TensorCore
import TestSupport
import Testing

@testable import ModelFiles

/// What `ModelDifference` says of slabs and checkpoints.
@Suite struct DiffTests {
  private static let pool = SlabFixtures.pool
  private static let assets = [SlabAsset(name: "config.json", bytes: Array("{}\n".utf8))]

  private static func write(
    _ url: URL, profile: SlabProfile = .run, assets: [SlabAsset] = assets,
    metadata: [String: String] = ["tool": "test"], _ names: [String] = ["a", "b", "c"],
    encoding: BlockEncoding = .q4b16, seed: UInt64 = 1, columnScale: Float = 1
  ) throws {
    try SlabFixtures.write(url.path, profile: profile, assets: assets, metadata: metadata) {
      let scales = [Float](repeating: columnScale, count: 50)
      for name in names {
        try $0.append(
          SlabFixtures.matrix(
            encoding, rows: 40, columns: 50, seed: seed,
            columnScales: encoding.isQuantized ? ColumnScales(scales) : nil),
          name: name, shape: [40, 50], sourceType: .bf16,
          columnScales: encoding.isQuantized ? "scales" : nil, statistics: nil)
      }
      if encoding.isQuantized {
        try $0.append(scales, name: "scales", shape: [50], sourceType: .f32)
      }
      try $0.append([1, 2, 3], name: "norm", shape: [3], sourceType: .f32)
    }
  }

  private static func diff(_ a: URL, _ b: URL) throws -> ModelDifference {
    try #require(
      try ModelDifference.compare(
        ModelListing(path: a.path), ModelListing(path: b.path), pool: pool))
  }

  private static func withPair(_ body: (_ a: URL, _ b: URL) throws -> Void) throws {
    try Place.withTemporaryDirectory {
      try body($0.appending(path: "a.slab"), $0.appending(path: "b.slab"))
    }
  }

  /// Two slabs of one model are told by their digests: no weight is read, for there is none left.
  @Test(arguments: SlabProfile.allCases, SlabProfile.allCases)
  func noWeightIsReadWhereDigestsTell(first: SlabProfile, second: SlabProfile) throws {
    try Self.withPair { a, b in
      for (url, profile) in [(a, first), (b, second)] {
        try Self.write(url, profile: profile)
        let handle = try FileHandle(forUpdating: url)
        for tensor in try Slab(path: url.path).tensors {
          for stream in tensor.streams {
            try handle.seek(toOffset: UInt64(stream.offset))
            handle.write(Data(repeating: 0xA5, count: stream.storedByteCount))
          }
        }
        try handle.close()
        #expect(throws: SlabError.self) { try Slab(path: url.path).verify(pool: Self.pool) }
      }
      let difference = try Self.diff(a, b)
      #expect(difference.isSameModel && difference.tensors.count == 4)
      #expect(difference.tensors.allSatisfy { $0.relation == .identical && !$0.isMoved })
    }
  }

  /// Where digests differ, weights are read, and what is damaged is no result.
  @Test func damagedWeightsAreNoResult() throws {
    try Self.withPair { a, b in
      try Self.write(a)
      try Self.write(b, seed: 2)
      let place = try #require(try Slab(path: b.path).tensor(named: "b")).offset
      let handle = try FileHandle(forUpdating: b)
      try handle.seek(toOffset: UInt64(place))
      let byte = try #require(try handle.read(upToCount: 1)).first!
      try handle.seek(toOffset: UInt64(place))
      handle.write(Data([byte ^ 4]))
      let error = #expect(throws: SlabError.self) { try Self.diff(a, b) }
      #expect(error?.reason == .damaged && error?.name == "b" && error?.path == b.path)
    }
  }

  @Test func addedRemovedReshapedMoved() throws {
    try Self.withPair { a, b in
      try Self.write(a, ["a", "b", "c", "d", "e"])
      try SlabFixtures.write(b.path, profile: .run, assets: Self.assets) { writer in
        let scales = [Float](repeating: 1, count: 50)
        for name in ["e", "a", "x", "c"] {
          try writer.append(
            SlabFixtures.matrix(
              .q4b16, rows: 40, columns: 50, seed: 1, columnScales: ColumnScales(scales)),
            name: name, shape: [40, 50], sourceType: .bf16, columnScales: "scales",
            statistics: nil)
        }
        try writer.append(scales, name: "scales", shape: [50], sourceType: .f32)
        try writer.append([1, 2], name: "norm", shape: [2], sourceType: .f32)
        try writer.append([1, 2], name: "d", shape: [2], sourceType: .f32)
      }
      let difference = try Self.diff(a, b)
      #expect(!difference.isSameModel)
      let relations = difference.tensors.map { ($0.name, $0.relation, $0.isMoved) }
      let expected: [(String, ModelDifference.Relation, Bool)] = [
        ("a", .identical, false), ("b", .removed, false), ("c", .identical, false),
        ("d", .reshaped, true), ("e", .identical, true), ("norm", .reshaped, false),
        ("x", .added, false),
      ]
      #expect(relations.count == expected.count)
      for (found, expected) in zip(relations, expected) { #expect(found == expected) }
    }
  }

  /// The order alone, or the profile, or metadata, makes no other model.
  @Test func orderIsReportedAndDoesNotCount() throws {
    try Self.withPair { a, b in
      try Self.write(a, metadata: ["tool": "one", "x": "y"], ["a", "b", "c"])
      try Self.write(b, metadata: ["tool": "two"], ["c", "a", "b"])
      let difference = try Self.diff(a, b)
      #expect(difference.isSameModel)
      #expect(difference.tensors.filter(\.isMoved).map(\.name) == ["c"])
      #expect(difference.metadata.map(\.key) == ["tool", "x"])
      #expect(difference.metadata.map(\.old) == ["one", "y"])
      #expect(difference.metadata.map(\.new) == ["two", nil])
    }
  }

  /// Another column scale changes the values of the tensors that name it, and is no tensor itself.
  @Test func columnScalesBelongToTheirTensors() throws {
    try Self.withPair { a, b in
      try Self.write(a, ["a"])
      try Self.write(b, ["a"], columnScale: 2)
      let difference = try Self.diff(a, b)
      #expect(difference.tensors.map(\.name) == ["a", "norm"])
      guard case .differing(let count, let statistics?) = difference.tensors[0].relation else {
        Issue.record("\(difference.tensors[0])")
        return
      }
      // Doubled: the error is the original itself.
      #expect(statistics.normalizedMeanSquaredError == 1 && statistics.cosineSimilarity == 1)
      let values = try Slab(path: a.path).checkedRows(
        of: try #require(try Slab(path: a.path).tensor(named: "a")), pool: Self.pool)
      var row = [Float](repeating: 0, count: 50)
      var (nonzero, largest): (Int, Float) = (0, 0)
      for index in 0..<40 {
        values.copyRow(index, into: &row)
        nonzero += row.count { $0 != 0 }
        largest = max(largest, row.map(abs).max()!)
      }
      #expect(count == nonzero && statistics.maximumAbsoluteError == Double(largest))
    }
  }

  @Test func anotherEncodingOfEqualValues() throws {
    try Self.withPair { a, b in
      let values = (0..<64).map { Float($0) - 20 }
      for (url, encoding) in [(a, BlockEncoding.bf16), (b, .f32)] {
        try SlabFixtures.write(url.path, profile: .run) {
          try $0.append(
            SlabFixtures.matrix(
              encoding, rows: 2, columns: 32, columnScales: nil, code: { _, _ in 0 },
              blockScale: { _, _ in 0 }, rowScale: { _ in 0 }, codebook: [],
              element: { values[$0 * 32 + $1] }), name: "m", shape: [2, 32], sourceType: .bf16,
            columnScales: nil, statistics: nil)
        }
      }
      let tensor = try Self.diff(a, b).tensors[0]
      #expect(tensor.relation == .equal && tensor.isReencoded && tensor.isSame)
      #expect(tensor.old?.encoding == "bf16" && tensor.new?.encoding == "f32")

      // A checkpoint of the same values, and one with another.
      let file = a.deletingLastPathComponent().appending(path: "model.safetensors")
      for (change, relation) in [
        (0, ModelDifference.Relation.equal),
        (
          2,
          .differing(
            count: 1,
            ErrorStatistics(
              normalizedMeanSquaredError: 4 / values.reduce(0) { $0 + Double($1 * $1) },
              maximumAbsoluteError: 2,
              cosineSimilarity: {
                var other = values
                other[7] += 2
                func dot(_ a: [Float], _ b: [Float]) -> Double {
                  zip(a, b).reduce(0) { $0 + Double($1.0) * Double($1.1) }
                }
                return dot(values, other) / (dot(values, values) * dot(other, other)).squareRoot()
              }()))
        ),
      ] {
        var other = values
        other[7] += Float(change)
        try SafetensorsWriter.write(
          path: file.path, tensors: [("m", [2, 32], other), ("n", [1], [0])])
        let difference = try Self.diff(a, file)
        #expect(difference.tensors.map(\.relation) == [relation, .added])
        #expect(difference.tensors.filter(\.isMoved).isEmpty)
      }
    }
  }

  @Test func checkpoints() throws {
    try Place.withTemporaryDirectory { directory in
      func write(_ name: String, _ type: DataType, _ values: [(String, [Float])]) throws -> URL {
        let url = directory.appending(path: name)
        let writer = try SafetensorsWriter(
          path: url.path, tensors: values.map { ($0.0, [$0.1.count]) }, dataType: type)
        for (_, values) in values {
          try values.map { type == .f32 ? $0.bitPattern : UInt32($0.bfloat16Bits) }
            .withUnsafeBytes { bytes in
              // The low halves, for bfloat16.
              let packed =
                type == .f32
                ? Array(bytes) : (0..<values.count).flatMap { Array(bytes[$0 * 4..<$0 * 4 + 2]) }
              try packed.withUnsafeBytes { try writer.append(bytes: $0) }
            }
        }
        try writer.finish()
        return url
      }
      let a = try write("a.safetensors", .f32, [("x", [1, 2, -0.0]), ("y", [.nan])])
      let b = try write("b.safetensors", .bf16, [("y", [.nan]), ("x", [1, 2, 0])])
      #expect(try Self.diff(a, a).tensors.map(\.relation) == [.identical, .identical])
      let difference = try Self.diff(a, b)
      #expect(difference.tensors.map(\.relation) == [.equal, .equal])
      #expect(difference.tensors.filter(\.isMoved).count == 1)
      let c = try write("c.safetensors", .f32, [("x", [1, 2, -0.0]), ("y", [1])])
      guard case .differing(1, _) = try Self.diff(a, c).tensors[1].relation else {
        Issue.record("a number equals NaN")
        return
      }
    }
  }

  @Test func whatIsNoModelIsRefused() throws {
    try Place.withTemporaryDirectory { directory in
      let text = directory.appending(path: "text")
      try Data("no model".utf8).write(to: text)
      for path in [text.path, directory.path, directory.path + "/nothing"] {
        #expect(throws: (any Error).self) { try ModelListing(path: path) }
      }
    }
  }
}

/// Texts line by line.
@Suite struct TextDifferenceTests {
  private static func lines(_ old: String, _ new: String) -> [String]? {
    TextDifference(old: Array(old.utf8), new: Array(new.utf8))?.hunks.flatMap { hunk in
      ["@@ \(hunk.oldLine) \(hunk.newLine)"] + hunk.lines.map { $0.mark.rawValue + $0.text }
    }
  }

  @Test func hunks() {
    let old = (1...20).map { "line \($0)" }.joined(separator: "\n") + "\n"
    let new = old.replacing("line 4\n", with: "").replacing("line 15\n", with: "new\nline 15\n")
    #expect(
      Self.lines(old, new) == [
        "@@ 1 1", " line 1", " line 2", " line 3", "-line 4", " line 5", " line 6", " line 7",
        "@@ 12 11", " line 12", " line 13", " line 14", "+new", " line 15", " line 16",
        " line 17",
      ])
    #expect(Self.lines(old, old) == [])
    #expect(Self.lines("", "a") == ["@@ 1 1", "+a"])
  }

  @Test func aLineBreakAtTheEndCounts() {
    let difference = TextDifference(old: Array("a\n".utf8), new: Array("a".utf8))
    #expect(difference?.hunks[0].lines.map(\.endsOpen) == [false, true])
  }

  @Test func templatesOnOneLineAreCut() {
    let body = (0..<30).map { #"{%- line \#($0) -%}\n"# }.joined()
    let (old, new) = (
      "{\n\"t\": \"\(body)\"\n}", "{\n\"t\": \"\(body.replacing("line 9", with: "x"))\"\n}"
    )
    let lines = Self.lines(old, new)
    #expect(lines?.first == "@@ 2 2")
    #expect(lines?.filter { $0.hasPrefix("-") } == [#"-{%- line 9 -%}\n"#])
    #expect(lines?.filter { $0.hasPrefix("+") } == [#"+{%- x -%}\n"#])
  }

  @Test func noTextAndTooMuchAreNotShown() {
    #expect(TextDifference(old: [0xFF], new: [0x41]) == nil)
    let count = TextDifference.maximumLineCount / 2
    func text(_ mark: String, _ count: Int) -> [UInt8] {
      Array((0..<count).map { "\(mark)\($0)\n" }.joined().utf8)
    }
    #expect(TextDifference(old: text("a", count), new: text("b", count)) != nil)
    #expect(TextDifference(old: text("a", count), new: text("b", count + 1)) == nil)
  }

  /// Hunks turn the old text into the new one.
  @Test func hunksAreAPatch() throws {
    var random = SplitMix64(seed: 8)
    for _ in 0..<500 {
      func text() -> [String] {
        (0..<Int(random.next() % 30)).map { _ in "\(random.next() % 4)\n" }
      }
      let old = text()
      var new = old
      for _ in 0..<random.next() % 4 {
        let place = Int(random.next() % UInt64(new.count + 1))
        if random.next() % 2 == 0 {
          new.insert("x\n", at: place)
        } else {
          new.removeSubrange(place..<min(new.count, place + 2))
        }
      }
      let difference = try #require(
        TextDifference(old: Array(old.joined().utf8), new: Array(new.joined().utf8)))
      var (patched, next): ([String], Int) = ([], 0)
      for hunk in difference.hunks {
        // A hunk of an empty text begins at line 1 too.
        while next < min(old.count, hunk.oldLine - 1) {
          patched.append(old[next])
          next += 1
        }
        #expect(patched.count == hunk.newLine - 1 || new.isEmpty)
        for line in hunk.lines {
          if line.mark != .added {
            #expect(old[next] == line.text + "\n")
            next += 1
          }
          if line.mark != .removed { patched.append(line.text + "\n") }
        }
      }
      #expect(patched + old[next...] == new)
    }
  }
}
