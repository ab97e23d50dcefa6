import Foundation
import TensorCore
import TestSupport
import Testing

@testable import ModelFiles

/// Where a checkpoint comes from, and whether it is still what it was.
@Suite struct ProvenanceTests {
  private static let revision = "0123456789abcdef0123456789abcdef01234567"
  private static let pool = WorkerPool(threadCount: 2)

  /// Calls `body` with a copy of a golden checkpoint at `place` in a new directory.
  private func withCopy(
    at place: String = "checkpoint", _ body: (URL) throws -> Void
  ) throws {
    try Place.withTemporaryDirectory { directory in
      let copy = directory.appending(path: place)
      try FileManager.default.createDirectory(
        at: copy.deletingLastPathComponent(), withIntermediateDirectories: true)
      try FileManager.default.copyItem(
        at: Place.goldens.appending(path: "checkpoints/granite-sharded"), to: copy)
      try body(copy)
    }
  }

  @Test func hashesAreThoseOfSha256sum() throws {
    let checkpoint = try Checkpoint(
      directory: Place.goldens.appending(path: "checkpoints/granite-sharded").path)
    let lines = try SourceHashing(checkpoint).lines()
    #expect(lines.split(separator: "\n").count == checkpoint.files.count)
    #expect(lines.utf8.count == SourceHashing.placeholder(for: checkpoint).utf8.count)
    let process = Process()
    let output = Pipe()
    process.executableURL = URL(filePath: "/usr/bin/sha256sum")
    process.arguments = checkpoint.files
    process.standardOutput = output
    try process.run()
    let expected = String(
      decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
    process.waitUntilExit()
    #expect(
      lines + "\n" == expected.replacing(checkpoint.directory + "/", with: ""))
  }

  @Test func aFileThatVanishesWhileItIsHashedIsNamed() throws {
    try withCopy { copy in
      let checkpoint = try Checkpoint(directory: copy.path)
      try FileManager.default.removeItem(atPath: checkpoint.weightFiles[1].path)
      let error = #expect(throws: CheckpointError.self) {
        try SourceHashing(checkpoint).lines()
      }
      #expect(error?.file == checkpoint.weightFiles[1].path)
      #expect(throws: CheckpointError.self) { try checkpoint.checkUnchanged() }
    }
  }

  @Test func changesAreNoticed() throws {
    try withCopy { copy in
      let checkpoint = try Checkpoint(directory: copy.path)
      let url = copy.appending(path: checkpoint.weightFileNames[2])
      let bytes = try Data(contentsOf: url)
      try checkpoint.checkUnchanged()
      func fault() -> CheckpointError? {
        #expect(throws: CheckpointError.self) { try checkpoint.checkUnchanged() }
      }
      let time = try FileManager.default.attributesOfItem(atPath: url.path)[.modificationDate]!
      try FileManager.default.setAttributes([.modificationDate: Date.now], ofItemAtPath: url.path)
      #expect(fault()?.reason == .changed)
      #expect(fault()?.file == url.path)
      try FileManager.default.setAttributes([.modificationDate: time], ofItemAtPath: url.path)

      let handle = try FileHandle(forWritingTo: url)
      try handle.seekToEnd()
      try handle.write(contentsOf: Data([1]))
      #expect(fault()?.found == "\(bytes.count + 1) bytes instead of \(bytes.count)")
      try FileManager.default.removeItem(at: url)
      #expect(fault()?.reason == .vanished)
      try bytes.write(to: url)
      #expect(fault()?.found?.isEmpty == false)
    }
  }

  @Test func fingerprintsTellCheckpointsApart() throws {
    try withCopy { copy in
      let first = try Checkpoint(directory: copy.path).fingerprint
      #expect(try Checkpoint(directory: copy.path).fingerprint == first)
      let shard = try Checkpoint(directory: copy.path).weightFiles[0].path
      try FileManager.default.setAttributes(
        [.modificationDate: Date(timeIntervalSince1970: 1.25)], ofItemAtPath: shard)
      let touched = try Checkpoint(directory: copy.path).fingerprint
      #expect(
        touched.contains { $0.value.hasSuffix("bytes, modified 1.250000000") }, "\(touched)")
      let config = copy.appending(path: "config.json")
      try (Data(contentsOf: config) + Data("\n".utf8)).write(to: config)
      let third = try Checkpoint(directory: copy.path).fingerprint
      let difference = Fingerprint(third).difference(from: Fingerprint(touched))
      #expect(difference?.hasPrefix("config.json was sha256 ") == true)
    }
  }

  @Test func digestsOfTensorsDependOnEveryByte() throws {
    try withCopy { copy in
      let checkpoint = try Checkpoint(directory: copy.path)
      let digests = checkpoint.tensors.map { checkpoint.digest(of: $0, pool: Self.pool) }
      let single = WorkerPool(threadCount: 1)
      #expect(checkpoint.tensors.map { checkpoint.digest(of: $0, pool: single) } == digests)
      let tensor = checkpoint.tensors[3]
      let url = URL(filePath: checkpoint.path(of: tensor))
      var bytes = try Data(contentsOf: url)
      bytes[tensor.byteRange.upperBound - 1] ^= 1
      try bytes.write(to: url)
      let changed = try Checkpoint(directory: copy.path)
      let again = changed.tensors.map { changed.digest(of: $0, pool: Self.pool) }
      #expect(zip(again, digests).map { $0 == $1 }.firstIndex(of: false) == 3)
      #expect(zip(again, digests).count { $0 != $1 } == 1)
    }
  }

  @Test func downloadsLeaveRecords() throws {
    try withCopy(at: "models--ibm-granite--granite-3.3/snapshots/\(Self.revision)") { copy in
      let link = copy.deletingLastPathComponent().appending(path: "../../here")
      try FileManager.default.createSymbolicLink(at: link, withDestinationURL: copy)
      for path in [copy.path, copy.path + "/", link.path] {
        let record = try Checkpoint(directory: path).download
        #expect(record?.revision == Self.revision)
        #expect(record?.repository == "ibm-granite/granite-3.3")
      }
    }
    try withCopy { copy in
      let checkpoint = try Checkpoint(directory: copy.path)
      #expect(checkpoint.download == nil)
      let records = copy.appending(path: ".cache/huggingface/download")
      try FileManager.default.createDirectory(at: records, withIntermediateDirectories: true)
      for (index, name) in checkpoint.weightFileNames.enumerated() {
        #expect(checkpoint.download == nil)
        try Data("\(Self.revision)\netag\(index)\n1700000000.5\n".utf8).write(
          to: records.appending(path: name + ".metadata"))
      }
      #expect(checkpoint.download?.revision == Self.revision)
      #expect(checkpoint.download?.repository == nil)
      // Files of two revisions, and what is no revision, say nothing.
      for text in [Self.revision.replacing("0", with: "1"), "main", ""] {
        try Data(text.utf8).write(
          to: records.appending(path: checkpoint.weightFileNames[0] + ".metadata"))
        #expect(checkpoint.download == nil)
      }
    }
  }
}
