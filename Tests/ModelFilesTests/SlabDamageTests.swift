import Foundation
import TensorCore
import TestSupport
import Testing

@testable import ModelFiles

/// Every truncation and every flipped byte of a small slab is found where formats/slab.md says.
@Suite struct SlabDamageTests {
  /// A slab of every kind of stream and codec, as small as alignment lets it be.
  private static func writeSmall(_ path: String, profile: SlabProfile) throws {
    let asset = SlabAsset(name: "config.json", bytes: Array("{\"a\": [0, 0, 0, 0, 0, 0, 0]}".utf8))
    try SlabFixtures.write(path, profile: profile, assets: [asset]) { writer in
      let scales = SlabFixtures.scales(20, seed: 1)
      try writer.append(
        SlabFixtures.matrix(
          .q4b16, rows: 18, columns: 20, seed: 2, columnScales: ColumnScales(scales)),
        name: "matrix", shape: [18, 20], sourceType: .bf16, columnScales: "scales",
        statistics: nil)
      try writer.append(scales, name: "scales", shape: [20], sourceType: .f32)
      try writer.append(
        (0..<64).map { Float($0 % 3) }, name: "norm", shape: [64], sourceType: .f32)
    }
  }

  /// The first stage that finds something wrong.
  private enum Stage: Int, Comparable {
    case opening, loading, verifying, never

    static func < (left: Stage, right: Stage) -> Bool { left.rawValue < right.rawValue }
  }

  private static func stage(_ path: String) -> (Stage, SlabError?) {
    let pool = WorkerPool(threadCount: 1)
    var stage = Stage.opening
    do throws(SlabError) {
      let slab = try Slab(path: path)
      stage = .loading
      for tensor in slab.tensors {
        switch tensor.layout {
        case .panel16: _ = try slab.matrix(named: tensor.name, pool: pool)
        case .plain: _ = try slab.values(named: tensor.name)
        }
      }
      stage = .verifying
      try slab.verify(pool: pool)
      return (.never, nil)
    } catch {
      return (stage, error)
    }
  }

  @Test(arguments: SlabProfile.allCases)
  func everyFlippedByteIsFound(profile: SlabProfile) throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try Self.writeSmall(path, profile: profile)
      let intact = try Slab(path: path)
      let streams = intact.tensors.flatMap { tensor in
        tensor.streams.map { (tensor: tensor, stream: $0) }
      }
      let original = try SlabFixtures.bytes(path)
      let handle = try FileHandle(forUpdating: URL(filePath: path))
      var found = [Stage: Int]()
      for offset in original.indices {
        // One bit, another one each time.
        try handle.seek(toOffset: UInt64(offset))
        handle.write(Data([original[offset] ^ (1 << UInt8(offset % 8))]))
        let (stage, error) = Self.stage(path)
        try handle.seek(toOffset: UInt64(offset))
        handle.write(Data([original[offset]]))
        found[stage, default: 0] += 1
        let hit = streams.first { $0.stream.bytes.byteRange.contains(offset) }
        guard let (tensor, stream) = hit else {
          #expect(stage == .opening, "offset \(offset)")
          continue
        }
        let isRawWeight = profile == .run && tensor.layout == .panel16
        #expect(stage == (isRawWeight ? .verifying : .loading), "offset \(offset)")
        #expect(error?.name == tensor.name && error?.stream == stream.kind)
        #expect(error?.byteRange?.contains(offset) == true && error?.frame == 0)
        #expect(error?.reason == .damaged)
      }
      #expect(found[.never] == nil && found[.loading]! > 0)
      #expect((found[.verifying] != nil) == (profile == .run))
      #expect(Self.stage(path).0 == .never)  // all restored
    }
  }

  @Test func everyTruncationIsRefused() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try Self.writeSmall(path, profile: .ship)
      let handle = try FileHandle(forUpdating: URL(filePath: path))
      for length in (0..<(try SlabFixtures.bytes(path).count)).reversed() {
        try handle.truncate(atOffset: UInt64(length))
        let (stage, error) = Self.stage(path)
        #expect(stage == .opening && error?.path == path)
        #expect(error?.reason == (length == 0 ? .notASlab : .damaged), "length \(length)")
      }
    }
  }

  @Test func aLongerFileIsRefused() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try Self.writeSmall(path, profile: .run)
      let handle = try FileHandle(forUpdating: URL(filePath: path))
      try handle.seekToEnd()
      handle.write(Data([0]))
      let error = Self.stage(path).1
      #expect(error?.reason == .malformed)
      #expect(error?.message == "the file goes on behind its index")
    }
  }

  /// Of several bad places verifying names the first: by tensor in the order of the file, stream,
  /// frame.
  @Test(arguments: [1, 4])
  func verifyingNamesTheFirstBadPlace(threadCount: Int) throws {
    let pool = WorkerPool(threadCount: threadCount)
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      // The names are in another order than the file.
      try SlabFixtures.write(path, profile: .run) { writer in
        for name in ["zebra", "antelope"] {
          try writer.append(
            SlabFixtures.regularMatrix(.q8b32, rows: 2000, columns: 1100), name: name,
            shape: [2000, 1100], sourceType: .bf16, columnScales: nil, statistics: nil)
        }
      }
      let handle = try FileHandle(forUpdating: URL(filePath: path))
      let slab = try Slab(path: path)
      var (calls, last) = (0, (0, 1))
      try slab.verify(pool: pool) { done, total in
        calls += 1
        last = (done, total)
      }
      #expect(calls == 6 && last.0 == last.1)

      func damage(_ name: String, _ kind: StreamKind, _ position: Int) throws {
        let stream = try #require(slab.tensor(named: name)?.streams.first { $0.kind == kind })
        try handle.seek(toOffset: UInt64(stream.offset + position))
        handle.write(Data([77]))
      }
      func bad() -> (name: String?, stream: StreamKind?, frame: Int?, range: Range<Int>?) {
        let error = #expect(throws: SlabError.self) { try slab.verify(pool: pool) }
        return (error?.name, error?.stream, error?.frame, error?.byteRange)
      }
      try damage("antelope", .codes, 5)
      #expect(bad().name == "antelope")
      try damage("zebra", .rowScales, 5)
      #expect(
        bad() == ("zebra", .rowScales, 0, slab.tensor(named: "zebra")!.streams[2].bytes.byteRange))
      let start = slab.tensor(named: "zebra")!.offset
      try damage("zebra", .codes, 2 << 20 | 9)
      #expect(bad() == ("zebra", .codes, 2, start + (2 << 20)..<start + 2000 * 1120))
      try damage("zebra", .codes, 1 << 20 | 9)
      #expect(bad() == ("zebra", .codes, 1, start + (1 << 20)..<start + (2 << 20)))
    }
  }
}
