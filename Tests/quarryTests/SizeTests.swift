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
      #expect(try Data(contentsOf: URL(filePath: slab)).count <= 6_500_000)
      #expect(FileManager.default.fileExists(atPath: recipe))
      // The table is for people; standard output holds events alone.
      for line in outcome.output.split(separator: "\n") {
        #expect(try JSONValue(parsing: String(line))["event"] != nil)
      }
      #expect(outcome.errors.contains("% of damage"))
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
