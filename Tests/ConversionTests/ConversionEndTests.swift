import Conversion
import Foundation
import ModelFiles
import Pebble
import Synchronization
import TensorCore
import TestSupport
import Testing

/// Conversions that end between their last tensor and their last word.
@Suite struct ConversionEndTests {
  private static func converter(
    progress: @escaping @Sendable (Converter.Progress) -> Void = { _ in },
    isCancelled: @escaping @Sendable () -> Bool = { false }
  ) throws -> Converter {
    var converter = Converter(
      checkpoint: try Checkpoint(directory: Pebble.directory.path), recipe: .q4s,
      calibration: Calibration(.bundled, tokenCount: 64), profile: .run,
      pool: WorkerPool(threadCount: 2), progress: progress, isCancelled: isCancelled)
    converter.recordInterval = .zero
    return converter
  }

  private func files(in directory: URL) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
  }

  /// Converts until the slab has its name, or its journal is about to go, and ends there.
  private static func die(_ path: String, at kind: String) throws {
    FaultPoint.observe(path) { point in
      switch point {
      case .renamed(_, to: path) where kind == "renamed": kill(getpid(), SIGKILL)
      case .removing(path + ".journal") where kind == "removing":
        if access(path, F_OK) == 0 { kill(getpid(), SIGKILL) }
      default: break
      }
    }
    _ = try converter().run(to: path)
  }

  /// Killed when the slab has its name, or when the first of its journals is about to go.
  @Test(arguments: ["renamed", "removing"]) func killedWhenTheSlabIsThere(kind: String) async throws
  {
    let directory = FileManager.default.temporaryDirectory.appending(
      path: "quarry-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let path = directory.appending(path: "a.slab").path
    await #expect(processExitsWith: .signal(SIGKILL)) {
      [path = path as String, kind = kind as String] in
      try ConversionEndTests.die(path, at: kind)
    }
    #expect(try files(in: directory) == ["a.slab", "a.slab.journal"])
    let left = try Data(contentsOf: URL(filePath: path))
    let report = try Self.converter().run(to: path)
    #expect(report.wasFinished && report.convertedByteCount == 0)
    #expect(report.resumedAfter == "8 of 8 layers")
    #expect(try files(in: directory) == ["a.slab"])
    #expect(try Data(contentsOf: URL(filePath: path)) == left)

    let other = directory.appending(path: "b.slab").path
    let whole = try Self.converter().run(to: other)
    #expect(try Data(contentsOf: URL(filePath: other)) == left)
    #expect(!whole.wasFinished && whole.convertedByteCount == whole.sourceByteCount)
    #expect(report.rootDigest == whole.rootDigest && report.fileByteCount == whole.fileByteCount)
    for (a, b) in zip(report.kinds, whole.kinds) {
      #expect(a.role == b.role && a.encoding == b.encoding && a.tensorCount == b.tensorCount)
      #expect(a.normalizedMeanSquaredError == b.normalizedMeanSquaredError)
      #expect(a.weightedError == b.weightedError)
    }
    // Whoever wants to begin again is asked about the slab.
    #expect(throws: ConversionError.self) { try Self.converter().run(to: path) }
  }

  /// Ctrl-C when all tensors are there and only digests of the source are waited for.
  @Test func cancelledBehindTheLastTensor() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      let isDone = Atomic(false)
      let error = #expect(throws: ConversionError.self) {
        try Self.converter(
          progress: { if $0.stage == .completing { isDone.store(true, ordering: .relaxed) } },
          isCancelled: { isDone.load(ordering: .relaxed) }
        ).run(to: path)
      }
      #expect(
        error == .suspended(.cancelled(path: path), path: path, kept: "8 of 8 layers"))
      #expect(try files(in: directory) == ["a.slab.journal", "a.slab.partial"])
      let resumed = try Self.converter().run(to: path)
      #expect(resumed.resumedAfter == "8 of 8 layers")
      #expect(resumed.convertedByteCount * 4 < resumed.sourceByteCount)
      #expect(!resumed.wasFinished)
      let other = directory.appending(path: "b.slab")
      _ = try Self.converter().run(to: other.path)
      #expect(try Data(contentsOf: URL(filePath: path)) == Data(contentsOf: other))
    }
  }

  /// Whoever waits for digests can leave at any time.
  @Test func waitingForDigestsCanEnd() throws {
    try Place.withTemporaryDirectory { directory in
      let copy = directory.appending(path: "pebble")
      try FileManager.default.copyItem(at: Pebble.directory, to: copy)
      let checkpoint = try Checkpoint(directory: copy.path)
      let small = SourceHashing(checkpoint)
      let isDone = small.wait(unless: { false })
      #expect(isDone)
      #expect(try small.lines().contains("config.json"))
      // Half a minute's reading.
      #expect(truncate(checkpoint.weightFiles[0].path, 1 << 36) == 0)
      let isLeft = !SourceHashing(checkpoint).wait(unless: { true })
      #expect(isLeft)
    }
  }

  /// Before, between and behind the windows of every layer.
  @Test func layersSayHowFarTheirCalibrationIs() throws {
    try Place.withTemporaryDirectory { directory in
      let stages = Mutex<[Converter.Stage]>([])
      _ = try Self.converter(progress: { step in stages.withLock { $0.append(step.stage) } })
        .run(to: directory.appending(path: "a.slab").path)
      let all = stages.withLock { $0 }
      for layer in 0..<8 {
        let own = [0, 64].map {
          Converter.Stage.calibrating(
            layer: layer, layerCount: 8, doneTokenCount: $0, tokenCount: 64)
        }
        let start = try #require(all.firstIndex(of: own[0]))
        #expect(all[start + 1] == own[1])
        guard case .encoding(let tensor) = all[start - 1] else {
          Issue.record("\(all[start - 1])")
          continue
        }
        #expect(tensor.hasPrefix("model.layers.\(layer)."))
      }
      #expect(all.last == .completing)
    }
  }
}
