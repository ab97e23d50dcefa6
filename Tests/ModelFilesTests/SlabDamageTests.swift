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
}
