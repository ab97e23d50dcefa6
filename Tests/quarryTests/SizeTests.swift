import Foundation
import JSON
import Pebble
import TestSupport
import Testing

/// Conversions to a size, through the real program.
@Suite struct SizeTests {
  private func convert(_ output: String, _ options: [String]) throws -> Program.Outcome {
    try quarry.run(["convert", Pebble.directory.path, "-o", output] + options)
  }

  @Test func theRecipeMakesTheSameSlabAgain() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = directory.appending(path: "a.slab")
      let again = directory.appending(path: "b.slab")
      let outcome = try convert(slab.path, ["--target-bpw", "5.5"])
      try #require(outcome.status == 0, "\(outcome.errors)")
      let recipe = slab.path + ".recipe.yaml"
      for text in ["% of damage", "predicted damage", "times that of q4", recipe, "embedding"] {
        #expect(outcome.output.contains(text), "\(text)")
      }
      try #require(convert(again.path, ["--recipe", recipe]).status == 0)
      #expect(try Data(contentsOf: slab) == Data(contentsOf: again))
      // Whoever asks again is told that the choice was made already.
      let refused = try convert(slab.path, ["--target-bpw", "5.5"])
      #expect(refused.status == 1 && refused.errors.contains("--recipe \(recipe)"))
    }
  }

  @Test func aFileKeepsWithinItsSize() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = directory.appending(path: "a.slab").path
      let recipe = directory.appending(path: "mine.yaml").path
      let outcome = try convert(
        slab, ["--target-size", "6.5MB", "--write-recipe", recipe, "--json"])
      try #require(outcome.status == 0, "\(outcome.errors)")
      let size = try Data(contentsOf: URL(filePath: slab)).count
      #expect(size <= 6_500_000 && size > 6_500_000 - 65_000)
      #expect(FileManager.default.fileExists(atPath: recipe))
      // The table is for people; standard output holds events alone.
      for line in outcome.output.split(separator: "\n") {
        #expect(try JSONValue(parsing: String(line))["event"] != nil)
      }
      #expect(outcome.errors.contains("% of damage"))
    }
  }

  /// Killed while it measures and while it converts: it goes on, and ends with the same file.
  @Test func goesOnWhereItWasKilled() throws {
    try Place.withTemporaryDirectory { directory in
      let checkpoint = directory.appending(path: "checkpoint")
      let configuration = try String(
        contentsOf: Pebble.directory.appending(path: "config.json"), encoding: .utf8)
      let config = directory.appending(path: "config.json")
      try Data(
        configuration.replacing("\"num_hidden_layers\": 8", with: "\"num_hidden_layers\": 12").utf8
      ).write(to: config)
      let made = try quarry.run(["synthesize", config.path, "-o", checkpoint.path])
      try #require(made.status == 0, "\(made.errors)")
      let (work, slab) = (directory.appending(path: "work"), "work/a.slab")
      try FileManager.default.createDirectory(at: work, withIntermediateDirectories: false)
      let output = directory.appending(path: slab).path
      var arguments = ["convert", checkpoint.path, "-o", output, "--target-bpw", "5.5"]
      arguments += ["--calibration-tokens", "2048", "--threads", "1"]
      try #require(quarry.run(arguments).status == 0)
      let reference = try Data(contentsOf: URL(filePath: output))
      let recipe = try Data(contentsOf: URL(filePath: output + ".recipe.yaml"))
      let files = ["a.slab", "a.slab.recipe.yaml"]
      #expect(try FileManager.default.contentsOfDirectory(atPath: work.path).sorted() == files)
      for file in files {
        try FileManager.default.removeItem(at: work.appending(path: file))
      }

      // Where the journal has been replaced so many times, and where the second pass has begun.
      let journal = output + ".costs.journal"
      func inode() -> Int? {
        (try? FileManager.default.attributesOfItem(atPath: journal))?[.systemFileNumber] as? Int
      }
      for (count, signal) in [(1, SIGKILL), (1, SIGTERM), (2, SIGKILL), (Int.max, SIGKILL)] {
        let ended = try quarry.run(arguments) { process, _ in
          var (seen, last) = (0, inode())
          while process.isRunning {
            if let now = inode(), now != last { (seen, last) = (seen + 1, now) }
            let isConverting = FileManager.default.fileExists(atPath: output + ".partial")
            if seen >= count || isConverting { break }
            usleep(500)
          }
          kill(process.processIdentifier, signal)
        }
        #expect(ended.status != 0)
        #expect(FileManager.default.fileExists(atPath: journal))
        if signal == SIGTERM { #expect(ended.errors.contains("run the same command to go on")) }
      }
      // Another text is refused, with the way out.
      let other = try quarry.run(arguments + ["--calibration-tokens", "1024"])
      #expect(other.status == 1 && other.errors.contains("calibration was "), "\(other.errors)")
      #expect(other.errors.contains("--restart"))
      let resumed = try quarry.run(arguments)
      #expect(resumed.status == 0, "\(resumed.errors)")
      #expect(resumed.errors.contains("12 of 12 layers were measured before"), "\(resumed.errors)")
      #expect(try Data(contentsOf: URL(filePath: output)) == reference)
      #expect(try Data(contentsOf: URL(filePath: output + ".recipe.yaml")) == recipe)
      #expect(try FileManager.default.contentsOfDirectory(atPath: work.path).sorted() == files)
    }
  }

  @Test(arguments: [
    (["--target-size", "1MB"], "a file of 1000000 bytes is not possible"),
    (
      ["--target-bpw", "3"], "3.0 bits per weight are not possible: with encodings of 4 and 8 bits"
    ),
    (["--target-bpw", "5", "--write-recipe", "/nonexistent/x.yaml"], "/nonexistent/x.yaml"),
  ])
  func saysWhatIsNotPossible(_ options: [String], _ message: String) throws {
    try Place.withTemporaryDirectory { directory in
      let slab = directory.appending(path: "a.slab")
      let outcome = try convert(slab.path, options)
      #expect(outcome.status == 1)
      #expect(outcome.errors.contains(message), "\(outcome.errors)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
    }
  }

  @Test(arguments: [
    ["--target-bpw", "5", "--target-size", "5MB"], ["--target-bpw", "0"], ["--target-bpw", "nan"],
    ["--target-size", "5 apples"], ["--target-size", "0"], ["--target-size", "5iB"],
    ["--write-recipe", "x.yaml"], ["--target-bpw", "5", "--recipe", "q8"],
    ["--target-bpw", "5", "--dry-run"],
  ])
  func explainsUsage(_ options: [String]) throws {
    let outcome = try convert("never.slab", options)
    #expect(outcome.status == 64)
    #expect(outcome.errors.contains("Usage: "))
  }
}
