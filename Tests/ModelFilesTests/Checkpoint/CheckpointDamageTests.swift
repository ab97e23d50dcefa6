import Foundation
import ModelFiles
import TensorCore
import TestSupport
import Testing

/// Damaged checkpoints: read or refused with a typed error, never a trap, never a hang.
@Suite struct CheckpointDamageTests {
  /// Reads everything that an opened checkpoint offers.
  private func readAll(_ checkpoint: Checkpoint) throws {
    for tensor in checkpoint.tensors {
      _ = try checkpoint.values(named: tensor.name)
    }
  }

  @Test(.timeLimit(.minutes(2))) func everyTruncationIsRefused() throws {
    let builder = try CheckpointBuilder()
    for files in [builder.files(), builder.shardedFiles()] {
      try Place.withTemporaryDirectory { directory in
        for (name, bytes) in files {
          try Data(bytes).write(to: directory.appending(path: name))
        }
        for (name, bytes) in files where name != "tokenizer.json" {
          let url = directory.appending(path: name)
          for length in 0..<bytes.count {
            try Data(bytes[..<length]).write(to: url)
            #expect(throws: CheckpointError.self, "\(name) cut to \(length) bytes") {
              try Checkpoint(directory: directory.path)
            }
          }
          try Data(bytes).write(to: url)
        }
        try readAll(Checkpoint(directory: directory.path))
      }
    }
  }

  @Test(.timeLimit(.minutes(2)), arguments: [UInt64](1...4)) func flipsAreSurvived(seed: UInt64)
    throws
  {
    let files = try CheckpointBuilder().shardedFiles().filter { $0.key != "tokenizer.json" }
    let names = files.keys.sorted()
    var random = SplitMix64(seed: seed)
    var outcomes = (opened: 0, refused: 0)
    try Place.withTemporaryDirectory { directory in
      for (name, bytes) in files {
        try Data(bytes).write(to: directory.appending(path: name))
      }
      for round in 0..<2500 {
        let name = names[round % names.count]
        var bytes = files[name]!
        for _ in 0..<Int.random(in: 1...4, using: &random) {
          let position = Int.random(in: 0..<bytes.count, using: &random)
          bytes[position] = UInt8.random(in: 0...255, using: &random)
        }
        let url = directory.appending(path: name)
        try Data(bytes).write(to: url)
        do throws(CheckpointError) {
          let checkpoint = try Checkpoint(directory: directory.path)
          for tensor in checkpoint.tensors {
            do throws(CheckpointError) {
              _ = try checkpoint.values(named: tensor.name)
            } catch { #expect(error.reason == .nonFinite) }
          }
          outcomes.opened += 1
        } catch {
          outcomes.refused += 1
          #expect(!"\(error)".utf8.contains { $0 < 0x20 })
        }
        try Data(files[name]!).write(to: url)
      }
    }
    #expect(outcomes.opened > 100 && outcomes.refused > 100)
  }
}
