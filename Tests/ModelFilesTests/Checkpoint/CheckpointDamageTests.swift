import Foundation
import ModelFiles
import TestSupport
import Testing

/// Damaged checkpoints: read or refused with a typed error, never a trap, never a hang.
///
/// Files are cut and changed in place: rewriting them thousands of times would wait for the disk.
@Suite struct CheckpointDamageTests {
  private func write(_ files: [String: [UInt8]], to directory: URL) throws {
    for (name, bytes) in files { try Data(bytes).write(to: directory.appending(path: name)) }
  }

  @Test(.timeLimit(.minutes(2))) func everyTruncationIsRefused() throws {
    let builder = try CheckpointBuilder()
    for files in [builder.files(), builder.shardedFiles()] {
      for (name, bytes) in files where name != "tokenizer.json" {
        try Place.withTemporaryDirectory { directory in
          try write(files, to: directory)
          let path = directory.appending(path: name).path
          let file = try #require(FileHandle(forUpdatingAtPath: path))
          for length in (0..<bytes.count).reversed() {
            try file.truncate(atOffset: UInt64(length))
            #expect(throws: CheckpointError.self, "\(name) cut to \(length) bytes") {
              try Checkpoint(directory: directory.path)
            }
          }
        }
      }
    }
  }

  @Test(.timeLimit(.minutes(2)), arguments: [UInt64](1...4))
  func flipsAreSurvived(seed: UInt64) throws {
    let files = try CheckpointBuilder().shardedFiles().filter { $0.key != "tokenizer.json" }
    let names = files.keys.sorted()
    var random = SplitMix64(seed: seed)
    var outcomes = (opened: 0, refused: 0)
    try Place.withTemporaryDirectory { directory in
      try write(files, to: directory)
      for round in 0..<2500 {
        let name = names[round % names.count]
        let bytes = files[name]!
        let path = directory.appending(path: name).path
        let file = try #require(FileHandle(forUpdatingAtPath: path))
        func put(_ byte: UInt8, at position: Int) throws {
          try file.seek(toOffset: UInt64(position))
          try file.write(contentsOf: [byte])
        }
        let positions = (0..<Int.random(in: 1...4, using: &random)).map { _ in
          Int.random(in: 0..<bytes.count, using: &random)
        }
        for position in positions {
          try put(UInt8.random(in: 0...255, using: &random), at: position)
        }
        do throws(CheckpointError) {
          try readAll(Checkpoint(directory: directory.path))
          outcomes.opened += 1
        } catch {
          outcomes.refused += 1
          #expect(!"\(error)".utf8.contains { $0 < 0x20 })
        }
        for position in positions { try put(bytes[position], at: position) }
      }
      try readAll(Checkpoint(directory: directory.path))  // all is as it was
    }
    #expect(outcomes.opened > 100 && outcomes.refused > 100)
  }

  /// Reads every weight; those that a flip made infinite are found.
  private func readAll(_ checkpoint: Checkpoint) throws(CheckpointError) {
    for tensor in checkpoint.tensors {
      do throws(CheckpointError) {
        _ = try checkpoint.values(named: tensor.name)
      } catch { #expect(error.reason == .nonFinite) }
    }
  }
}
