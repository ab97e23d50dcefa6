import Foundation
import Pebble
import TestSupport
import Testing

/// Failures as people meet them: one clear sentence, an exit code, nothing lost.
@Suite struct FailureTests {
  @Test(arguments: [
    (["generate", "/nonexistent.slab", "-p", "x"], "/nonexistent.slab"),
    (["convert", "/nonexistent", "-o", "out.slab"], "/nonexistent"),
    (["verify", "/dev/null"], "/dev/null"),
    (["inspect", "/nonexistent"], "cannot read /nonexistent"),
    (["tokenize", "/nonexistent"], "/nonexistent"),
    (["generate", "-p", "x", "--top-p", "7"], "top_p"),
    (["generate", "-p", "x", "--context", "999999999"], "context"),
    (["generate", "-p", "x", "--kwargs", "[]"], "--kwargs must be a JSON object"),
    (["logits", "--tokens", "1,999999", "-o", "/tmp/never.safetensors"], "999999"),
    (["logits", "--tokens", "1,a", "-o", "/tmp/never.safetensors"], "'a'"),
  ])
  func saysWhatIsWrong(_ arguments: [String], _ text: String) throws {
    let outcome = try quarry.run(arguments)
    #expect(outcome.status == 1)
    #expect(outcome.output.isEmpty)
    #expect(outcome.errors.contains("Error: "))
    #expect(outcome.errors.contains(text), "\(outcome.errors)")
  }

  @Test(arguments: [
    ["generate", "-p", "x", "-f", "y"], ["generate", "--temperature", "warm"], ["nonsense"],
    ["convert"], ["logits", "-o", "x"], ["verify", "x", "--threads", "0"],
    ["generate", "--logit-bias", "7"], ["generate", "--date", "2025-13-01"],
  ])
  func explainsUsage(_ arguments: [String]) throws {
    let outcome = try quarry.run(arguments)
    #expect(outcome.status == 64)
    #expect(outcome.errors.contains("Error: "))
    #expect(outcome.errors.contains("Usage: "))
  }

  @Test(arguments: [
    "convert", "inspect", "verify", "repack", "generate", "chat", "render", "logits", "tokenize",
    "detokenize", "doctor",
  ])
  func everyCommandHasExamples(_ command: String) throws {
    let outcome = try quarry.run([command, "--help"])
    #expect(outcome.status == 0)
    #expect(outcome.output.contains("EXAMPLES\n"))
    #expect(outcome.output.contains("quarry \(command)"))
  }

  @Test func keepsWhatIsThere() throws {
    try Place.withTemporaryDirectory { directory in
      let output = directory.appending(path: "precious.slab")
      try Data("precious".utf8).write(to: output)
      let arguments = ["convert", Pebble.directory.path, "-o", output.path]
      let refused = try quarry.run(arguments)
      #expect(refused.status == 1)
      #expect(refused.errors.contains("precious.slab"))
      #expect(refused.errors.contains("--force"))
      #expect(try Data(contentsOf: output) == Data("precious".utf8))
      #expect(try quarry.run(arguments + ["--force"]).status == 0)
      #expect(try quarry.run(["verify", output.path]).status == 0)
    }
  }

  @Test func controlCLeavesNothingOfAConversion() throws {
    try Place.withTemporaryDirectory { directory in
      let checkpoint = try SyntheticCheckpoint.make(in: directory, layers: 12, hiddenSize: 768)
      let output = directory.appending(path: "out.slab")
      let outcome = try quarry.run(
        ["convert", checkpoint.path, "-o", output.path, "--threads", "1"]
      ) { process in
        while process.isRunning, !files(in: directory).contains(where: { $0.contains(".partial") })
        {
          usleep(1000)
        }
        process.interrupt()
      }
      #expect(outcome.status == 130)
      #expect(outcome.errors.contains("was not written"))
      #expect(files(in: directory) == ["checkpoint"])
    }
  }

  @Test func controlCStopsAnAnswer() throws {
    let outcome = try quarry.run(
      ["generate", "-p", "Stones", "--max-tokens", "8000", "--min-tokens", "8000"]
    ) { process in
      usleep(700_000)
      process.interrupt()
    }
    #expect(outcome.status == 130)
    #expect(outcome.errors.contains("ended by cancelled"))
    #expect(outcome.output.hasSuffix("\n"))
  }

  private func files(in directory: URL) -> [String] {
    (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
  }
}
