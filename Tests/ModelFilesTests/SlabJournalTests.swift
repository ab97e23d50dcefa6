import Foundation
import Synchronization
import TensorCore
import TestSupport
import Testing

@testable import ModelFiles

/// Writers that go on behind what an interrupted one did.
@Suite struct SlabJournalTests {
  private static let assets = [SlabAsset(name: "a", bytes: Array("short".utf8))]
  private static let fingerprint = Fingerprint([.init("recipe", "q4"), .init("weights", "1 2 3")])
  private static let stepCount = 4

  private static func writer(
    _ path: String, replacing: Bool = false, fingerprint: Fingerprint = fingerprint,
    restarting: Bool = false, profile: SlabProfile = .run, expectedByteCount: Int = 0,
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) throws(SlabError) -> SlabWriter {
    try SlabWriter(
      path: path, profile: profile, replacing: replacing, inputs: [], assets: assets,
      metadata: ["tool": "test"], expectedByteCount: expectedByteCount, pool: SlabFixtures.pool,
      fingerprint: fingerprint, restarting: restarting, isCancelled: isCancelled)
  }

  private static func payload(_ step: Int) -> [UInt8] {
    (0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ step) }
  }

  /// A matrix with column scales, which come before it in even and behind it in odd steps; the last
  /// step has plain tensors only.
  private static func append(_ step: Int, to writer: SlabWriter) throws {
    if step == stepCount - 1 {
      for name in ["p", "q"] {
        try writer.append([1, 2, Float(step)], name: name, shape: [3], sourceType: .bf16)
      }
      return
    }
    let scales = SlabFixtures.scales(40, seed: UInt64(step))
    func appendScales() throws {
      try writer.append(scales, name: "s\(step)", shape: [40], sourceType: .f32)
    }
    if step % 2 == 0 { try appendScales() }
    try writer.append(
      SlabFixtures.matrix(
        .q4b16, rows: 40, columns: 40, seed: UInt64(step), columnScales: ColumnScales(scales)),
      name: "m\(step)", shape: [40, 40], sourceType: .bf16, columnScales: "s\(step)",
      statistics: ErrorStatistics(
        normalizedMeanSquaredError: 0.5, maximumAbsoluteError: 1, cosineSimilarity: 0.5,
        weightedError: 0.1 * Double(step + 1)))
    if step % 2 == 1 { try appendScales() }
  }

  /// Does what is left to do, as a caller would.
  private static func run(_ writer: SlabWriter, until end: Int = stepCount) throws {
    var first = 0
    if let resumption = writer.resumption {
      first = Int(resumption.summary.split(separator: " ")[0])!
      #expect(resumption.payload == payload(first))
      #expect(resumption.tensors.count == 2 * first)
    }
    for step in first..<max(first, end) {
      try append(step, to: writer)
      try writer.recordStep("\(step + 1) of \(stepCount) steps", payload: payload(step + 1))
    }
    if end == stepCount { try writer.finish() }
  }

  private static func reference(_ profile: SlabProfile = .run) throws -> [UInt8] {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      let plain = try SlabWriter(
        path: path, profile: profile, replacing: false, inputs: [], assets: assets,
        metadata: ["tool": "test"], expectedByteCount: 0, pool: SlabFixtures.pool)
      for step in 0..<stepCount { try append(step, to: plain) }
      try plain.finish()
      return try SlabFixtures.bytes(path)
    }
  }

  private func files(_ directory: URL) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
  }

  /// Leaves a journal of `steps` steps at `path`.
  private func interrupt(_ path: String, after steps: Int) throws {
    let writer = try Self.writer(path)
    try Self.run(writer, until: steps)
    writer.suspend()
  }

  @Test(arguments: SlabProfile.allCases) func goesOn(profile: SlabProfile) throws {
    let reference = try Self.reference(profile)
    for interruptions in [[], [1], [3], [1, 2], [1, 1, 3]] {
      try Place.withTemporaryDirectory { directory in
        let path = directory.appending(path: "a.slab").path
        for steps in interruptions {
          let writer = try Self.writer(path, profile: profile)
          try Self.run(writer, until: steps)
          // What was not recorded is lost, however much of it is in the file.
          try? writer.append([9], name: "lost", shape: [1], sourceType: .f32)
          writer.suspend()
          #expect(writer.recorded == "\(steps) of \(Self.stepCount) steps")
          #expect(try files(directory) == ["a.slab.journal", "a.slab.partial"])
        }
        let writer = try Self.writer(path, profile: profile)
        #expect((writer.resumption != nil) == !interruptions.isEmpty)
        try Self.run(writer)
        #expect(try SlabFixtures.bytes(path) == reference)
        #expect(try files(directory) == ["a.slab"])
        let slab = try Slab(path: path)
        #expect(slab.tensor(named: "m2")?.statistics?.weightedError == 0.1 * 3)
        #expect(slab.metadata.keys.sorted() == ["tool", "zstd", "zstd-level"])
      }
    }
  }

  /// Of so many tensors that one entry of the metadata cannot hold them.
  @Test func weightedErrorsOfManyTensors() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      let matrix = SlabFixtures.matrix(.q8b32, rows: 1, columns: 1, seed: 1)
      let name = String(repeating: "n", count: 240)
      try SlabFixtures.write(path, profile: .ship) { writer in
        for index in 0..<700 {
          try writer.append(
            matrix, name: "\(name)\(index)", shape: [1, 1], sourceType: .f32, columnScales: nil,
            statistics: ErrorStatistics(
              normalizedMeanSquaredError: 0, maximumAbsoluteError: 0, cosineSimilarity: 1,
              weightedError: 1 / Double(index + 3)))
        }
      }
      let slab = try Slab(path: path)
      for index in 0..<700 {
        #expect(
          slab.tensor(named: "\(name)\(index)")?.statistics?.weightedError
            == 1 / Double(index + 3))
      }
      try Repacking.repack(
        slab, to: path + "2", profile: .ship, replacing: false, pool: SlabFixtures.pool)
      #expect(try SlabFixtures.bytes(path + "2") == SlabFixtures.bytes(path))
    }
  }

  /// Whatever a power cut left behind the journaled end, and in the place of the superblock.
  @Test func whatCameAfterTheJournalIsDropped() throws {
    let reference = try Self.reference()
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try interrupt(path, after: 2)
      var bytes = try SlabFixtures.bytes(path + ".partial")
      bytes.replaceSubrange(0..<4096, with: reference[0..<4096])
      bytes += [UInt8](repeating: 0xFF, count: 100_000)
      try Data(bytes).write(to: URL(filePath: path + ".partial"))
      try Self.run(try Self.writer(path))
      #expect(try SlabFixtures.bytes(path) == reference)
    }
  }

  @Test func anotherJobIsRefused() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try interrupt(path, after: 2)
      let before = try files(directory).map { try SlabFixtures.bytes(directory.path + "/" + $0) }
      let others: [(Fingerprint, SlabProfile, String)] = [
        (
          Fingerprint([.init("recipe", "q8"), .init("weights", "1 2 3")]), .run,
          "2 of 4 steps done, but recipe was q4 and is q8"
        ),
        (Fingerprint([.init("recipe", "q4")]), .run, "weights (1 2 3) is gone"),
        (Fingerprint(Self.fingerprint.components + [.init("more", "x")]), .run, "more is new (x)"),
        (Self.fingerprint, .ship, "profile was run and is ship"),
      ]
      for (fingerprint, profile, text) in others {
        let error = #expect(throws: SlabError.self) {
          try Self.writer(path, fingerprint: fingerprint, profile: profile)
        }
        #expect(error?.reason == .otherJob)
        #expect(error?.description.contains(text) == true, "\(error?.description ?? "")")
        #expect(error?.description.contains("--restart") == true)
      }
      #expect(
        try files(directory).map { try SlabFixtures.bytes(directory.path + "/" + $0) } == before)
      let fresh = try Self.writer(path, restarting: true)
      #expect(fresh.resumption == nil)
      try Self.run(fresh)
      #expect(try SlabFixtures.bytes(path) == Self.reference())
      #expect(try files(directory) == ["a.slab"])
    }
  }

  /// Every byte of a journal matters, and none can do harm.
  @Test func damagedJournalsAreRefused() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try interrupt(path, after: 2)
      let journal = try SlabFixtures.bytes(path + ".journal")
      func refused(_ bytes: [UInt8]) throws -> SlabError? {
        try Data(bytes).write(to: URL(filePath: path + ".journal"))
        return #expect(throws: SlabError.self) { try Self.writer(path) }
      }
      for position in stride(from: 0, to: journal.count, by: 37) {
        var bytes = journal
        bytes[position] ^= 1 << UInt8(position % 8)
        #expect(try refused(bytes)?.reason == (position < 8 ? .invalidInput : .journalDamaged))
      }
      for count in [0, 8, 39, 40, 41, journal.count - 1] {
        #expect(try refused(Array(journal[..<count]))?.reason == .journalDamaged)
      }
      // Forged: the digest is right, and a number somewhere is not.
      var random = SplitMix64(seed: 3)
      for _ in 0..<300 {
        var bytes = Array(journal.dropLast(32))
        let position = 8 + Int(random.next() % UInt64(bytes.count - 5000 - 8))
        for index in position..<position + 1 + Int(random.next() % 8) {
          bytes[index] = random.next() % 2 == 0 ? 0xFF : UInt8(truncatingIfNeeded: random.next())
        }
        bytes += Digest(of: bytes).bytes
        try Data(bytes).write(to: URL(filePath: path + ".journal"))
        if let writer = try? Self.writer(path) {
          // Names, statistics and digests of column scales may be anything.
          try? writer.finish()
          try? FileManager.default.removeItem(atPath: path)
          try interrupt(path, after: 2)
        }
      }
      // The way out works.
      _ = try refused(Array(journal[..<100]))
      #expect(try files(directory) == ["a.slab.journal", "a.slab.partial"])
      try Self.run(try Self.writer(path, restarting: true))
      #expect(try SlabFixtures.bytes(path) == Self.reference())
    }
  }

  @Test func whatTheDiskLostIsFound() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try interrupt(path, after: 2)
      let partial = try SlabFixtures.bytes(path + ".partial")
      let end = partial.lastIndex { $0 != 0 }!
      var flipped = partial
      flipped[end] ^= 1
      for bytes in [flipped, Array(partial[..<end]), Array(partial[..<1])] {
        try Data(bytes).write(to: URL(filePath: path + ".partial"))
        let error = #expect(throws: SlabError.self) { try Self.writer(path) }
        #expect(error?.reason == .journalDamaged)
        #expect(error?.description.contains("--restart") == true)
        #expect(try SlabFixtures.bytes(path + ".partial") == bytes)
      }
      // A journal without its file is worth nothing.
      try FileManager.default.removeItem(atPath: path + ".partial")
      let writer = try Self.writer(path)
      #expect(writer.resumption == nil)
      try Self.run(writer)
      #expect(try SlabFixtures.bytes(path) == Self.reference())
    }
  }

  @Test func foreignFilesAreNeverTouched() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      let precious = Data("precious".utf8)
      try precious.write(to: URL(filePath: path + ".journal"))
      for restarting in [false, true] {
        let error = #expect(throws: SlabError.self) {
          try Self.writer(path, restarting: restarting)
        }
        #expect(error?.reason == .invalidInput)
        #expect(try Data(contentsOf: URL(filePath: path + ".journal")) == precious)
        #expect(try files(directory) == ["a.slab.journal"])
      }
      let error = #expect(throws: SlabError.self) {
        try SlabWriter(
          path: path, profile: .run, replacing: true, inputs: [path + ".journal"], assets: [],
          metadata: [:], expectedByteCount: 0, pool: SlabFixtures.pool,
          fingerprint: Self.fingerprint)
      }
      #expect(error?.reason == .outputIsInput)
    }
  }

  /// The second is refused, and neither work nor journal of the first suffers.
  @Test func oneWriterAtATime() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try interrupt(path, after: 1)
      let first = try Self.writer(path)
      for restarting in [false, true] {
        let error = #expect(throws: SlabError.self) {
          try Self.writer(path, restarting: restarting)
        }
        #expect(error?.reason == .busy)
      }
      try Self.run(first)
      #expect(try SlabFixtures.bytes(path) == Self.reference())
    }
  }

  @Test func onlyWhatAnotherRunCanUseIsKept() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      // Nothing was recorded.
      let early = try Self.writer(path)
      try Self.append(0, to: early)
      early.suspend()
      #expect(early.recorded == nil)
      #expect(try files(directory).isEmpty)
      // Another run would fail as well.
      let wrong = try Self.writer(path)
      try Self.run(wrong, until: 2)
      #expect(throws: SlabError.self) {
        try wrong.append([1], name: "m0", shape: [1], sourceType: .f32)
      }
      #expect(try files(directory).isEmpty)
      // Given up.
      let given = try Self.writer(path)
      try Self.run(given, until: 2)
      given.cancel()
      #expect(try files(directory).isEmpty)
      // Forgotten: the end of a writer's life is no reason to lose work.
      try { try Self.run(try Self.writer(path), until: 2) }()
      #expect(try files(directory) == ["a.slab.journal", "a.slab.partial"])
      // Space is short: what is done stays, and only the rest is asked for.
      let error = #expect(throws: SlabError.self) {
        try Self.writer(path, expectedByteCount: 1 << 60)
      }
      #expect(error?.kept == "2 of 4 steps")
      #expect(error?.description.hasSuffix("run the same command to go on.") == true)
      // Stopped while it looks at what is there.
      let stopped = #expect(throws: SlabError.self) {
        try Self.writer(path, isCancelled: { true })
      }
      #expect(stopped?.reason == .cancelled && stopped?.kept == "2 of 4 steps")
      #expect(try files(directory) == ["a.slab.journal", "a.slab.partial"])
      try Self.run(try Self.writer(path))
    }
  }

  /// The disk is full in the middle: what is done is kept, and more space is all it takes.
  @Test func aFullDiskLosesNothing() async {
    await #expect(processExitsWith: .success) {
      try Place.withTemporaryDirectory { directory in
        signal(SIGXFSZ, SIG_IGN)
        let reference = try SlabJournalTests.reference()
        var kept = 0
        for limit in stride(from: 2000, to: reference.count, by: 3333) {
          let path = directory.appending(path: "a.slab").path
          var size = rlimit(rlim_cur: rlim_t(limit), rlim_max: rlim_t.max)
          setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &size)
          do {
            try SlabJournalTests.run(try SlabJournalTests.writer(path))
            exit(1)
          } catch let error as SlabError {
            precondition(error.reason == .system(code: EFBIG))
            let files = try FileManager.default.contentsOfDirectory(atPath: directory.path)
            precondition(files.count == (error.kept == nil ? 0 : 2), "\(files)")
            precondition(error.kept == nil || error.description.contains("free some space"))
            kept += error.kept == nil ? 0 : 1
          }
          size.rlim_cur = rlim_t.max
          setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &size)
          try SlabJournalTests.run(try SlabJournalTests.writer(path))
          let bytes = try SlabFixtures.bytes(path)
          precondition(bytes == reference)
          try FileManager.default.removeItem(atPath: path)
        }
        precondition(kept > 5)
      }
    }
  }
}
