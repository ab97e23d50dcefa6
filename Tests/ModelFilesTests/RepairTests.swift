import Foundation
import Synchronization
import TensorCore
import TestSupport
import Testing

@testable import ModelFiles

/// Slabs are damaged for real, and become what they were.
@Suite struct RepairTests {
  private static let pool = SlabFixtures.pool

  /// A model with streams of several frames, in a profile.
  private static func write(_ path: String, _ profile: SlabProfile, seed: UInt64 = 4) throws {
    let assets = [
      SlabAsset(name: "config.json", bytes: Array(repeating: 0x41, count: 3000)),
      SlabAsset(name: "empty", bytes: []),
    ]
    try SlabFixtures.write(path, profile: profile, assets: assets) { writer in
      let scales = SlabFixtures.scales(70, seed: 1)
      try writer.append(
        SlabFixtures.regularMatrix(.q8b32, rows: 2100, columns: 1000), name: "frames",
        shape: [2100, 1000], sourceType: .bf16, columnScales: nil, statistics: nil)
      try writer.append(
        SlabFixtures.matrix(
          .q4b16, rows: 40, columns: 70, seed: seed, columnScales: ColumnScales(scales)),
        name: "matrix", shape: [40, 70], sourceType: .bf16, columnScales: "scales",
        statistics: nil)
      try writer.append(scales, name: "scales", shape: [70], sourceType: .f32)
      try writer.append(
        SlabFixtures.matrix(.bf16, rows: 700, columns: 900, seed: 3), name: "output",
        shape: [700, 900], sourceType: .f16, columnScales: nil, statistics: nil)
    }
  }

  /// A model whole in both profiles, and a file to break.
  private struct Bench {
    let directory: URL
    let profile: SlabProfile
    let whole: [UInt8]
    var broken: String { directory.appending(path: "broken.slab").path }
    var same: String { directory.appending(path: "\(profile).slab").path }
    var other: String {
      directory.appending(path: "\(profile == .run ? SlabProfile.ship : .run).slab").path
    }

    init(_ directory: URL, _ profile: SlabProfile) throws {
      self.directory = directory
      self.profile = profile
      for profile in SlabProfile.allCases {
        try RepairTests.write(directory.appending(path: "\(profile).slab").path, profile)
      }
      whole = try SlabFixtures.bytes(directory.appending(path: "\(profile).slab").path)
    }

    func parts() throws -> SlabParts {
      try #require(try SlabFinding(SlabFile(path: same)).parts)
    }

    /// The whole bytes but for the middle of each range.
    func flipped(_ ranges: [Range<Int>]) -> [UInt8] {
      var bytes = whole
      for range in ranges { bytes[(range.lowerBound + range.upperBound) / 2] ^= 16 }
      return bytes
    }

    func flip(_ path: String, _ ranges: [Range<Int>], of bytes: [UInt8]? = nil) throws {
      var bytes = try bytes ?? SlabFixtures.bytes(path)
      for range in ranges { bytes[(range.lowerBound + range.upperBound) / 2] ^= 16 }
      try Data(bytes).write(to: URL(filePath: path))
    }

    func survey(_ donors: [String]) throws -> SlabRepair {
      try SlabRepair(path: broken, donors: donors, pool: RepairTests.pool)
    }

    /// Breaks, repairs, and expects the bytes that were.
    func expectRepair(
      _ bytes: [UInt8], _ donors: [String], faults: Int? = nil, _ comment: Comment
    ) throws {
      try Data(bytes).write(to: URL(filePath: broken))
      let repair = try survey(donors)
      #expect(repair.missingRanges == [] && !repair.faults.isEmpty, comment)
      if let faults { #expect(repair.faults.count == faults, comment) }
      guard repair.missingRanges == [] else { return }
      var last = (0, 1)
      try repair.run(pool: RepairTests.pool) { last = ($0, $1) }
      #expect(try SlabFixtures.bytes(broken) == whole, comment)
      #expect(last.0 == last.1)
      #expect(try survey([]).faults.isEmpty)
      #expect(!FileManager.default.fileExists(atPath: broken + ".partial"))
    }

    /// Breaks, and expects that these ranges are named and nothing is changed.
    func expectMissing(
      _ bytes: [UInt8], _ donors: [String], _ ranges: [Range<Int>], _ comment: Comment
    ) throws {
      try Data(bytes).write(to: URL(filePath: broken))
      #expect(try survey(donors).missingRanges == ranges, comment)
      #expect(try SlabFixtures.bytes(broken) == bytes, comment)
    }
  }

  private static func withBench(
    _ profile: SlabProfile, _ body: (Bench) throws -> Void
  ) throws {
    try Place.withTemporaryDirectory { try body(Bench($0, profile)) }
  }

  /// A flipped bit in every part of the file: superblock, padding, every frame of every stream, assets,
  /// index.
  @Test(arguments: SlabProfile.allCases) func everyPart(profile: SlabProfile) throws {
    try Self.withBench(profile) { bench in
      let parts = try bench.parts()
      #expect(parts.byteCount == bench.whole.count)
      var (end, kinds) = (0, Set<String>())
      for part in parts.parts {
        #expect(part.range.lowerBound == end)  // nothing is left out
        end = part.range.upperBound
        kinds.insert("\(part.content)".prefix { $0.isLetter }.description)
        let bytes = bench.flipped([part.range])
        try bench.expectRepair(bytes, [bench.same], faults: 1, "\(part)")
        try bench.expectRepair(bytes, [bench.other], faults: 1, "\(part)")
        switch part.content {
        case .superblock, .padding: try bench.expectRepair(bytes, [], faults: 1, "\(part)")
        case .index, .frame: try bench.expectMissing(bytes, [], [part.range], "\(part)")
        }
      }
      #expect(kinds == ["superblock", "padding", "frame", "index"])
    }
  }

  @Test(arguments: SlabProfile.allCases) func manyPlacesAtOnce(profile: SlabProfile) throws {
    try Self.withBench(profile) { bench in
      let parts = try bench.parts().parts
      let all = parts.map(\.range)
      let index = all.last!
      let frame = try #require(
        parts.last { if case .frame = $0.content { true } else { false } }?.range)
      // All but the index; all but the superblock.
      for donor in [bench.same, bench.other] {
        try bench.expectRepair(
          bench.flipped(all.dropLast()), [donor], faults: all.count - 1, "no index")
        try bench.expectRepair(
          bench.flipped(Array(all.dropFirst())), [donor], faults: all.count - 1, "no superblock")
      }
      try bench.expectMissing(
        bench.flipped([all[0], all[2], all[3], frame]), [],
        [all[2].lowerBound..<all[3].upperBound, frame], "neighbours are one range")
      // Superblock and index: the rest proves which model it is.
      for donor in [bench.same, bench.other] {
        try bench.expectRepair(bench.flipped([all[0], index]), [donor], faults: 2, "both")
      }
      try bench.expectMissing(
        bench.flipped([all[0], index]), [], [0..<bench.whole.count], "both")
      // Superblocks without the digest that vouches for the index.
      for bytes in [
        [UInt8](repeating: 0, count: 4096) + bench.whole[4096...], bench.flipped([60..<61]),
      ] {
        try bench.expectMissing(bytes, [], [all[0]], "no digest")
        try bench.expectRepair(bytes, [bench.same], faults: 1, "no digest")
        try bench.expectRepair(bytes, [bench.other], faults: 1, "no digest")
      }
    }
  }

  @Test(arguments: SlabProfile.allCases) func wrongLengths(profile: SlabProfile) throws {
    try Self.withBench(profile) { bench in
      let index = try bench.parts().parts.last!.range
      for length in [
        4096, 4097, 20000, bench.whole.count / 2, index.lowerBound, index.upperBound - 1,
      ] {
        let bytes = Array(bench.whole[..<length])
        try bench.expectRepair(bytes, [bench.same], "\(length)")
        try bench.expectRepair(bytes, [bench.other], "\(length)")
        try bench.expectMissing(
          bytes, [], [min(length, index.lowerBound)..<index.upperBound], "\(length)")
        #expect(try bench.survey([]).isIncomplete)
      }
      for length in [0, 100, 4095] {
        let bytes = Array(bench.whole[..<length])
        try Data(bytes).write(to: URL(filePath: bench.broken))
        let repair = try bench.survey([bench.same])
        #expect(repair.faults.map(\.kind) == [.everything])
        #expect(repair.missingRanges == (length == 0 ? [0..<0] : [0..<length]))
      }
      try bench.expectRepair(bench.whole + [1, 2, 3], [], faults: 1, "longer")
    }
  }

  @Test func otherModelsAndOtherFilesAreRefused() throws {
    try Self.withBench(.run) { bench in
      let wrong = bench.directory.appending(path: "wrong.slab").path
      try Self.write(wrong, .run, seed: 5)
      let range = try bench.parts().parts[2].range
      func error(_ bytes: [UInt8], _ donors: [String]) throws -> SlabError? {
        try Data(bytes).write(to: URL(filePath: bench.broken))
        let error = #expect(throws: SlabError.self) { try bench.survey(donors) }
        #expect(try SlabFixtures.bytes(bench.broken) == bytes)
        return error
      }
      var found = try error(bench.flipped([range]), [bench.same, wrong])
      #expect(found?.reason == .invalidInput && found?.path == wrong)
      // Also where only the superblock says what it was.
      found = try error(Array(bench.whole[..<50000]), [wrong])
      #expect(found?.reason == .invalidInput)
      // An index that can be read, but is not what it was: the weights are compared.
      let lost = bench.flipped([0..<4096, bench.whole.count - 2..<bench.whole.count])
      try bench.expectRepair(lost, [bench.same], "lost")
      try bench.expectMissing(Array("no slab".utf8), [bench.same], [0..<7], "text")
      try bench.expectMissing(
        [UInt8](repeating: 3, count: bench.whole.count), [bench.same], [0..<bench.whole.count],
        "noise")
      // A copy without an index.
      try bench.flip(wrong, [bench.whole.count - 2..<bench.whole.count])  // as long as the other
      found = try error(bench.flipped([range]), [wrong])
      #expect(found?.reason == .damaged && found?.path == wrong)
      found = try error(bench.flipped([range]), [bench.directory.path + "/nothing"])
      #expect(found != nil)
      // A later version is no damage.
      var later = bench.whole
      later[8] = 2
      later.replaceSubrange(4064..<4096, with: Digest(of: Array(later[..<4064])).bytes)
      found = try error(later, [])
      #expect(found?.reason == .unsupported)
      // The broken file itself as a good copy.
      try Data(bench.flipped([0..<8])).write(to: URL(filePath: bench.broken))
      let repair = try bench.survey([bench.broken])
      found = #expect(throws: SlabError.self) { try repair.run(pool: Self.pool) }
      #expect(found?.reason == .outputIsInput)
    }
  }

  @Test func copiesMayBeDamagedElsewhere() throws {
    try Self.withBench(.run) { bench in
      let frames = try bench.parts().parts.filter {
        if case .frame = $0.content { true } else { false }
      }.map(\.range)
      let other = try #require(
        try SlabFinding(SlabFile(path: bench.other)).parts
      ).parts.filter {
        if case .frame = $0.content { true } else { false }
      }.map(\.range)
      #expect(frames.count == other.count)
      try bench.flip(bench.same, [frames[0], frames[1]])
      try bench.flip(bench.other, [other[1], other[2], 0..<4096])
      try bench.expectRepair(bench.flipped([frames[2], frames[3]]), [bench.same], faults: 2, "")
      try bench.expectRepair(
        bench.flipped([frames[0], frames[2]]), [bench.other, bench.same], faults: 2, "two copies")
      try bench.expectMissing(
        bench.flipped([frames[0], frames[1], frames[3]]), [bench.other, bench.same], [frames[1]],
        "bad everywhere")
    }
  }

  @Test func anIntactFileIsLeftAlone() throws {
    try Self.withBench(.ship) { bench in
      try Data(bench.whole).write(to: URL(filePath: bench.broken))
      #expect(try bench.survey([]).faults.isEmpty)
      #expect(try bench.survey([bench.other]).faults.isEmpty)
    }
  }

  /// A link keeps its place, and the file that it leads to is repaired.
  @Test func linksAreFollowed() throws {
    try Self.withBench(.run) { bench in
      let link = bench.directory.appending(path: "link.slab").path
      try FileManager.default.createSymbolicLink(
        atPath: link, withDestinationPath: "broken.slab")
      try Data(bench.flipped([0..<4096])).write(to: URL(filePath: bench.broken))
      try SlabRepair(path: link, donors: [], pool: Self.pool).run(pool: Self.pool)
      #expect(try SlabFixtures.bytes(bench.broken) == bench.whole)
      #expect(try FileManager.default.destinationOfSymbolicLink(atPath: link) == "broken.slab")
    }
  }

  @Test func cancelledRepairsChangeNothing() throws {
    try Self.withBench(.run) { bench in
      let bytes = bench.flipped([0..<4096])
      try Data(bytes).write(to: URL(filePath: bench.broken))
      var error = #expect(throws: SlabError.self) {
        try SlabRepair(path: bench.broken, donors: [], pool: Self.pool, isCancelled: { true })
      }
      #expect(error?.reason == .cancelled)
      error = #expect(throws: SlabError.self) {
        try bench.survey([]).run(pool: Self.pool, isCancelled: { true })
      }
      #expect(error?.reason == .cancelled)
      #expect(try SlabFixtures.bytes(bench.broken) == bytes)
      #expect(!FileManager.default.fileExists(atPath: bench.broken + ".partial"))
    }
  }

  private static func die(_ broken: String, _ donor: String, at count: Int) throws {
    let seen = Atomic(0)
    FaultPoint.observe(broken) { _ in
      if seen.add(1, ordering: .relaxed).newValue == count { kill(getpid(), SIGKILL) }
    }
    try SlabRepair(path: broken, donors: [donor], pool: pool).run(pool: pool)
    exit(0)
  }

  /// Ended at fault points from the first write to the renaming, a repair leaves the broken file as it
  /// was, or the whole one.
  @Test func killed() async throws {
    let directory = FileManager.default.temporaryDirectory.appending(
      path: "quarry-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let bench = try Bench(directory, .run)
    let bytes = bench.flipped(Array(try bench.parts().parts.map(\.range).dropLast()))
    // How many there are.
    let count = Atomic(0)
    try Data(bytes).write(to: URL(filePath: bench.broken))
    FaultPoint.observe(bench.broken) { _ in count.add(1, ordering: .relaxed) }
    try bench.survey([bench.other]).run(pool: Self.pool)
    FaultPoint.ignore(bench.broken)
    let last = count.load(ordering: .relaxed)
    #expect(last > 20)
    try Data(bytes).write(to: URL(filePath: bench.broken))
    for point in [1, 2, last / 2, last - 5, last - 3, last - 2, last - 1] {
      await #expect(processExitsWith: .signal(SIGKILL)) {
        [
          broken = bench.broken as String, donor = bench.other as String, point = point as Int
        ] in
        try RepairTests.die(broken, donor, at: point)
      }
      #expect(try SlabFixtures.bytes(bench.broken) == bytes, "\(point) of \(last)")
    }
    try bench.expectRepair(bytes, [bench.other], "after all that")
    try Data(bytes).write(to: URL(filePath: bench.broken))
    await #expect(processExitsWith: .signal(SIGKILL)) {
      [broken = bench.broken as String, donor = bench.other as String, last = last as Int] in
      try RepairTests.die(broken, donor, at: last)
    }
    #expect(try SlabFixtures.bytes(bench.broken) == bench.whole)
  }
}
