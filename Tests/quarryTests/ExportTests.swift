import Foundation
import ModelFiles
import Pebble
import TestSupport
import Testing

/// `quarry export` as a program.
@Suite struct ExportCommandTests {
  @Test func anUnquantizedSlabIsItsCheckpointAgain() throws {
    try Place.withTemporaryDirectory { directory in
      func path(_ name: String) -> String { directory.appending(path: name).path }
      for arguments in [
        ["convert", Pebble.directory.path, "-o", path("a.slab"), "--recipe", "bf16"],
        ["export", path("a.slab"), "-o", path("out"), "--shard-size", "4MB"],
        ["diff", Pebble.directory.path, path("out")],
      ] {
        let outcome = try quarry.run(arguments)
        try #require(outcome.status == 0, "\(arguments[0]): \(outcome.errors)\(outcome.output)")
      }
      let again = try quarry.run(["export", path("a.slab"), "-o", path("out")])
      #expect(again.status == 1 && again.errors.contains("exists already"))
      let none = try quarry.run(["export", path("a.slab"), "-o", path("x"), "--to", "ggml"])
      #expect(none.status == 64 && none.errors.contains("safetensors"))
    }
  }

  /// An interrupted export leaves nothing; a killed one is taken over.
  @Test func interruptedExports() throws {
    try Place.withTemporaryDirectory { directory in
      let checkpoint = try SyntheticCheckpoint.make(in: directory, layers: 12, hiddenSize: 768)
      let slab = directory.appending(path: "a.slab").path
      let output = directory.appending(path: "out")
      let partial = output.path + ".partial"
      let made = try quarry.run(["convert", checkpoint.path, "-o", slab, "--recipe", "f32"])
      try #require(made.status == 0, "\(made.errors)")
      func run(_ signal: Int32) throws -> Program.Outcome {
        try quarry.run(["export", slab, "-o", output.path, "--type", "f32", "--threads", "1"]) {
          process, _ in
          while process.isRunning, !FileManager.default.fileExists(atPath: partial) { usleep(500) }
          if process.isRunning { kill(process.processIdentifier, signal) }
        }
      }
      let files = try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
      let interrupted = try run(SIGINT)
      #expect(interrupted.status == 130 && interrupted.errors.contains("nothing is left"))
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted() == files)
      _ = try run(SIGKILL)
      #expect(FileManager.default.fileExists(atPath: partial))
      #expect(!FileManager.default.fileExists(atPath: output.path))
      let whole = try quarry.run(["export", slab, "-o", output.path, "--type", "f32"])
      #expect(whole.status == 0, "\(whole.errors)")
      #expect(!FileManager.default.fileExists(atPath: partial))
      #expect(try quarry.run(["diff", checkpoint.path, output.path]).status == 0)
    }
  }
}
