import Conversion
import Foundation
import JSON
import ModelFiles
import Pebble
import Synchronization
import TensorCore
import TestSupport
import Testing

/// Calibrated conversions that are killed, at any instant and inside the writes of journal, segments
/// and superblock: another run ends with the very same file, and most do not begin again.
///
/// `QUARRY_KILLS=50` is the full set, with a conversion of more than four seconds; see CONTRIBUTING.md.
@Suite struct ConversionKillTests {
  private static let killCount =
    ProcessInfo.processInfo.environment["QUARRY_KILLS"].flatMap(Int.init) ?? 10
  private static let isFull = killCount >= 50
  /// Of a model whose conversion takes long enough.
  private static let (width, layerCount) = isFull ? (768, 24) : (256, 12)

  /// Where a process ends.
  private enum Place: String, CaseIterable {
    case journal, segment, superblock

    init?(_ point: FaultPoint) {
      let isJournal = point.path.contains(".slab.journal")
      switch point {
      case .writing(_, 0, _, 4096) where !isJournal: self = .superblock
      case .writing, .synchronizing, .synchronized, .renaming, .renamed:
        self = isJournal ? .journal : .segment
      case .removing: return nil
      }
    }
  }

  /// A checkpoint of random weights, with a tokenizer.
  private static func makeCheckpoint(at path: String) throws {
    let files = try Checkpoint(directory: Pebble.directory.path).assets
    var json = String(decoding: files.first { $0.name == "config.json" }!.bytes, as: UTF8.self)
    for (old, new) in [
      ("\"hidden_size\": 256", "\"hidden_size\": \(width)"),
      ("\"intermediate_size\": 768", "\"intermediate_size\": \(4 * width)"),
      ("\"num_hidden_layers\": 8", "\"num_hidden_layers\": \(layerCount)"),
    ] {
      #expect(json.contains(old))
      json = json.replacing(old, with: new)
    }
    try SyntheticModel(configuration: Array(json.utf8), seed: 7).writeCheckpoint(
      to: path, assets: files, pool: WorkerPool(threadCount: 2))
  }

  /// - Returns: what an earlier run had done.
  @discardableResult
  private static func convert(_ checkpoint: String, to path: String) throws -> String? {
    var converter = Converter(
      checkpoint: try Checkpoint(directory: checkpoint), recipe: .q4, profile: .run,
      pool: WorkerPool(threadCount: isFull ? 1 : 2))
    if !isFull { converter.recordInterval = .zero }
    return try converter.run(to: path).resumedAfter
  }

  /// Converts until the `count`th fault point in a place, or until some milliseconds are over, and ends
  /// there without another word.
  private static func die(
    _ checkpoint: String, _ path: String, in place: String, after count: Int
  ) throws {
    guard let place = Place(rawValue: place) else {
      let timer = BackgroundTask {
        usleep(UInt32(count) * 1000)
        kill(getpid(), SIGKILL)
      }
      try convert(checkpoint, to: path)
      return timer.wait()
    }
    let seen = Atomic(0)
    FaultPoint.observe(path) { point in
      if Place(point) == place, seen.add(1, ordering: .relaxed).newValue == count {
        kill(getpid(), SIGKILL)
      }
    }
    try convert(checkpoint, to: path)
  }

  @Test func everyRunThatIsKilledCanGoOn() async throws {
    let directory = FileManager.default.temporaryDirectory.appending(
      path: "quarry-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let checkpoint = directory.appending(path: "checkpoint").path
    try Self.makeCheckpoint(at: checkpoint)

    let path = directory.appending(path: "a.slab").path
    let counts = Mutex<[Place: Int]>([:])
    FaultPoint.observe(path) { point in
      if let place = Place(point) { counts.withLock { $0[place, default: 0] += 1 } }
    }
    let start = ContinuousClock.now
    #expect(try Self.convert(checkpoint, to: path) == nil)
    let duration = Int((ContinuousClock.now - start) / .milliseconds(1))
    FaultPoint.ignore(path)
    let reference = try Data(contentsOf: URL(filePath: path))
    let totals = counts.withLock { $0 }
    try FileManager.default.removeItem(atPath: path)
    if Self.isFull { #expect(duration >= 4000) }

    var resumed = 0
    for number in 0..<Self.killCount {
      let (pair, pairs) = (number / 2, Self.killCount / 2)
      let place = number % 2 == 0 ? nil : Place.allCases[pair % 3]
      let total = place.map { totals[$0, default: 0] } ?? duration
      let count = max(1, total * (2 * pair + 1) / (2 * pairs))
      await #expect(processExitsWith: .signal(SIGKILL), "\(place?.rawValue ?? "time") \(count)") {
        [
          checkpoint = checkpoint as String, path = path as String,
          place = (place?.rawValue ?? "") as String, count = count as Int
        ] in
        try ConversionKillTests.die(checkpoint, path, in: place, after: count)
      }
      if !FileManager.default.fileExists(atPath: path) {
        let summary = try Self.convert(checkpoint, to: path)
        if let summary, !summary.hasPrefix("0 ") { resumed += 1 }
        print(
          "kill \(number): \(place?.rawValue ?? "ms") \(count) of \(total), \(summary ?? "anew")")
      } else {
        resumed += 1
      }
      #expect(try Data(contentsOf: URL(filePath: path)) == reference)
      for file in try FileManager.default.contentsOfDirectory(atPath: directory.path)
      where file != "checkpoint" {
        try FileManager.default.removeItem(at: directory.appending(path: file))
      }
    }
    // Those that are killed in the first layer have nothing to go on behind.
    #expect(resumed * 10 >= Self.killCount * (Self.isFull ? 8 : 6), "\(resumed)")
  }
}
