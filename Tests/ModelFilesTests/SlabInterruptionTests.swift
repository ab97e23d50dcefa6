import Foundation
import Synchronization
import TensorCore
import TestSupport
import Testing

@testable import ModelFiles

/// A writer is ended between any two calls that change the disk, in the middle of writes too, by a
/// signal or by a power cut; the next one always ends with the same file.
@Suite struct SlabInterruptionTests {
  private static let stepCount = 3

  private static func write(_ path: String) throws -> Resumption? {
    let writer = try SlabWriter(
      path: path, profile: .run, replacing: true, inputs: [],
      assets: [SlabAsset(name: "a", bytes: Array("short".utf8))], metadata: [:],
      expectedByteCount: 0, pool: SlabFixtures.pool,
      fingerprint: Fingerprint([.init("recipe", "q4")]))
    let first = writer.resumption.map { Int($0.payload[0]) } ?? 0
    for step in first..<stepCount {
      try writer.append(
        SlabFixtures.matrix(.q4b16, rows: 40, columns: 40, seed: UInt64(step)), name: "m\(step)",
        shape: [40, 40], sourceType: .bf16, columnScales: nil, statistics: nil)
      try writer.append([1, 2, 3], name: "p\(step)", shape: [3], sourceType: .f32)
      try writer.recordStep("\(step + 1) of 3 steps", payload: [UInt8(step + 1)])
    }
    try writer.finish()
    return writer.resumption
  }

  /// What the disk would hold at every fault point of a run, and how to make it so.
  private final class Recorder: Sendable {
    private struct State {
      var snapshots: [URL] = []
      /// Writes that no finished synchronization covers, in order, and those that an unfinished one
      /// found there.
      var unsynchronized: [Range<Int>] = []
      var covered = 0
      var random = SplitMix64(seed: 5)
    }

    private let directory: URL
    private let storage: URL
    private let losesPower: Bool
    private let state = Mutex(State())

    init(_ directory: URL, storage: URL, losesPower: Bool) {
      (self.directory, self.storage, self.losesPower) = (directory, storage, losesPower)
    }

    var snapshots: [URL] { state.withLock { $0.snapshots } }

    func pass(_ point: FaultPoint) {
      state.withLock { state in
        if point.path.hasSuffix("slab.partial") {
          switch point {
          case .writing(_, let offset, _, let count):
            state.unsynchronized.append(offset..<offset + count)
          case .synchronizing: state.covered = state.unsynchronized.count
          case .synchronized: state.unsynchronized.removeFirst(state.covered)
          default: break
          }
        }
        let copy = storage.appending(path: "\(state.snapshots.count)")
        try! FileManager.default.createDirectory(at: copy, withIntermediateDirectories: true)
        // The journal first: while it is copied, the other thread may write to the file it describes.
        for name in ["a.slab.journal", "a.slab.journal.partial", "a.slab.partial", "a.slab"] {
          try? FileManager.default.copyItem(
            at: directory.appending(path: name), to: copy.appending(path: name))
        }
        if losesPower { Self.losePower(copy.appending(path: "a.slab.partial"), &state) }
        state.snapshots.append(copy)
      }
    }

    /// Any of the sectors that were not synchronized may be as they were before, which is zero.
    private static func losePower(_ file: URL, _ state: inout State) {
      guard var bytes = try? Data(contentsOf: file) else { return }
      for range in state.unsynchronized {
        for sector in range.lowerBound / 512...range.upperBound / 512
        where state.random.next() % 2 == 0 {
          let part = (sector * 512..<(sector + 1) * 512).clamped(to: range)
            .clamped(to: 0..<bytes.count)
          bytes.resetBytes(in: part)
        }
      }
      try! bytes.write(to: file)
    }
  }

  @Test(arguments: [false, true]) func everyFaultPoint(losesPower: Bool) throws {
    try Place.withTemporaryDirectory { base in
      let directory = base.appending(path: "d")
      let snapshots = try Self.record(
        directory, storage: base.appending(path: "s"), losesPower: losesPower)
      let reference = try SlabFixtures.bytes(directory.path + "/a.slab")
      #expect(snapshots.count > 70)
      // Every step is a place to go on from.
      var counts = [Int](repeating: 0, count: Self.stepCount + 1)
      for snapshot in snapshots { counts[try Self.recover(snapshot, reference)] += 1 }
      for count in counts { #expect(count > 3, "\(counts)") }
    }
  }

  private static func record(
    _ directory: URL, storage: URL, losesPower: Bool
  ) throws -> [URL] {
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    let recorder = Recorder(directory, storage: storage, losesPower: losesPower)
    FaultPoint.observe(directory.path) { recorder.pass($0) }
    defer { FaultPoint.ignore(directory.path) }
    _ = try write(directory.path + "/a.slab")
    return recorder.snapshots
  }

  /// Runs where an interrupted writer left off.
  /// - Returns: the steps that it did not do again.
  private static func recover(_ directory: URL, _ reference: [UInt8]) throws -> Int {
    let path = directory.path + "/a.slab"
    if FileManager.default.fileExists(atPath: path) {
      #expect(try SlabFixtures.bytes(path) == reference)
    }
    let resumption = try write(path)
    #expect(try SlabFixtures.bytes(path) == reference)
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["a.slab"])
    return resumption.map { Int($0.payload[0]) } ?? 0
  }

  /// Writes until the `count`th fault point of a kind, and ends there.
  private static func die(_ path: String, at count: Int, _ kind: String) throws {
    let seen = Atomic(0)
    FaultPoint.observe(path) { point in
      if "\(point)".hasPrefix(kind), seen.add(1, ordering: .relaxed).newValue == count {
        kill(getpid(), SIGKILL)
      }
    }
    _ = try write(path)
  }

  /// The same with a real process and a real end.
  @Test(arguments: ["writing", "synchronizing", "renaming", "renamed", "removing"])
  func killed(at kind: String) async throws {
    let directory = FileManager.default.temporaryDirectory.appending(
      path: "quarry-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let path = directory.appending(path: "a.slab").path
    for count in [2, 2] {
      await #expect(processExitsWith: .signal(SIGKILL)) {
        [path = path as String, kind = kind as String, count = count as Int] in
        try SlabInterruptionTests.die(path, at: count, kind)
      }
    }
    _ = try Self.write(path)
    let resumed = try SlabFixtures.bytes(path)
    _ = try Self.write(path)
    #expect(try SlabFixtures.bytes(path) == resumed)
  }
}
