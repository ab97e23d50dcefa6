import Foundation
import JSON
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Testing

/// `quarry diff` as a program: what it prints, and its exit codes.
@Suite struct DiffCommandTests {
  private static let pebble = Pebble.directory.path

  private static func convert(_ path: String, _ recipe: String, _ more: [String] = []) throws {
    let outcome = try quarry.run(
      ["convert", pebble, "-o", path, "--recipe", recipe, "--calibration", "none"] + more)
    try #require(outcome.status == 0, "\(outcome.errors)")
  }

  @Test func oneModelIsTheSameHoweverStored() throws {
    try Place.withTemporaryDirectory { directory in
      func path(_ name: String) -> String { directory.appending(path: name).path }
      try Self.convert(path("run.slab"), "q4")
      try Self.convert(path("ship.slab"), "q4", ["--profile", "ship"])
      let same = try quarry.run(["diff", path("run.slab"), path("ship.slab")])
      #expect(same.status == 0 && same.errors == "")
      #expect(same.output.split(separator: "\n").last?.hasPrefix("same model: ") == true)
      let json = try JSONValue(
        parsing: try quarry.run(["diff", path("run.slab"), path("ship.slab"), "--json"]).output)
      #expect(json["same_model"] == true && json["a"]?["profile"] == "run")
      #expect(json["b"]?["kind"] == "slab")
      let tensors = try #require(json["tensors"]?.array)
      let names = try Checkpoint(directory: Self.pebble).tensors.map(\.name)
      #expect(tensors.map { $0["name"]?.string } == names)
      #expect(tensors.allSatisfy { $0["relation"] == "identical" && $0["nmse"] == .null })

      // An unquantized slab has the values of its checkpoint.
      try Self.convert(path("bf16.slab"), "bf16")
      let lossless = try quarry.run(["diff", Self.pebble, path("bf16.slab"), "--json"])
      #expect(lossless.status == 0)
      #expect(
        try JSONValue(parsing: lossless.output)["tensors"]?.array?.allSatisfy {
          $0["relation"] == "equal"
        } == true)
    }
  }

  @Test func otherValuesTextsAndMetadata() throws {
    try Place.withTemporaryDirectory { directory in
      func path(_ name: String) -> String { directory.appending(path: name).path }
      try Self.convert(path("q4.slab"), "q4")
      let copy = directory.appending(path: "copy")
      try FileManager.default.copyItem(atPath: Self.pebble, toPath: copy.path)
      let config = copy.appending(path: "config.json")
      let text = try String(contentsOf: config, encoding: .utf8)
      let changed = text.replacing(#""rms_norm_eps": 1e-05"#, with: #""rms_norm_eps": 2e-05"#)
      try #require(changed != text)
      try Data(changed.utf8).write(to: config)
      try FileManager.default.removeItem(at: copy.appending(path: "special_tokens_map.json"))
      let outcome = try quarry.run(
        ["convert", copy.path, "-o", path("q8.slab"), "--recipe", "q8", "--calibration", "none"])
      try #require(outcome.status == 0)

      let diff = try quarry.run(["diff", path("q4.slab"), path("q8.slab")])
      #expect(diff.status == 1 && diff.errors == "")
      let lines = diff.output.split(separator: "\n").map(String.init)
      #expect(lines.contains("  recipe: q4 → q8"))
      #expect(lines.contains { $0.hasPrefix("    -") && $0.contains("1e-05") })
      #expect(lines.contains { $0.hasPrefix("    +") && $0.contains("2e-05") })
      #expect(lines.contains { $0.contains("only in A") })
      let row = try #require(lines.first { $0.hasPrefix("model.layers.0.mlp.down_proj.weight ") })
      #expect(row.contains("q4b16") && row.contains("q8b16"))
      #expect(lines.last?.hasPrefix("different: ") == true)

      // How far the values are apart, seen from the checkpoint, is what converting recorded.
      let against = try quarry.run(["diff", Self.pebble, path("q4.slab"), "--json"])
      #expect(against.status == 1)
      let slab = try Slab(path: path("q4.slab"))
      for tensor in try #require(try JSONValue(parsing: against.output)["tensors"]?.array) {
        let stored = try #require(slab.tensor(named: tensor["name"]?.string ?? ""))
        guard let recorded = stored.statistics else {
          #expect(tensor["relation"] == "equal")
          continue
        }
        let found = try #require(tensor["nmse"]?.double)
        let expected = recorded.normalizedMeanSquaredError
        #expect(abs(found - expected) <= expected * 1e-9)
      }
    }
  }

  @Test func failuresHaveACodeOfTheirOwn() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = directory.appending(path: "a.slab").path
      try Self.convert(slab, "q4")
      let missing = try quarry.run(["diff", slab, slab + ".nothing"])
      #expect(missing.status == 2 && missing.output == "")
      #expect(missing.errors.hasPrefix("Error: ") && missing.errors.contains(".nothing"))
      try Data("text".utf8).write(to: directory.appending(path: "text"))
      #expect(try quarry.run(["diff", slab, directory.path + "/text"]).status == 2)
      #expect(try quarry.run(["diff", slab, directory.path]).status == 2)
      #expect(try quarry.run(["diff", slab]).status == 64)
    }
  }

  private static let hasScript = FileManager.default.isExecutableFile(atPath: "/usr/bin/script")

  /// On a terminal what only one side has and what differs has its colour, unless somebody objects.
  @Test(.enabled(if: hasScript, "needs script(1), which runs a program on a terminal"))
  func coloursOfATerminal() throws {
    try Place.withTemporaryDirectory { directory in
      func path(_ name: String) -> String { directory.appending(path: name).path }
      try Self.convert(path("a.slab"), "q8")
      let copy = directory.appending(path: "copy")
      try FileManager.default.copyItem(atPath: Self.pebble, toPath: copy.path)
      let config = copy.appending(path: "config.json")
      let text = try String(contentsOf: config, encoding: .utf8)
      try Data(text.replacing("1e-05", with: "2e-05").utf8).write(to: config)
      try FileManager.default.removeItem(at: copy.appending(path: "special_tokens_map.json"))

      let terminal = Program(executable: URL(filePath: "/usr/bin/script"))
      func run(_ a: String, _ b: String, _ objection: String) throws -> [String] {
        let command =
          "stty cols 200; '\(quarry.executable.path)' diff '\(a)' '\(b)' 2>/dev/null"
        let outcome = try terminal.run(
          ["-q", "-e", "-c", command, "/dev/null"],
          environment: ["NO_COLOR": objection, "TERM": "xterm"])
        #expect(outcome.status == 1)
        return outcome.output.split(whereSeparator: \.isNewline).map(String.init)
      }
      let lines = try run(path("a.slab"), copy.path, "")
      func isStyled(_ number: Int, _ line: String) -> Bool {
        line.hasPrefix("\u{1B}[\(number)m") && line.hasSuffix("\u{1B}[0m")
      }
      let (red, green, yellow) = (31, 32, 33)
      #expect(lines.contains { isStyled(red, $0) && $0.contains("--- ") })
      #expect(lines.contains { isStyled(green, $0) && $0.contains("+++ ") })
      #expect(lines.contains { isStyled(yellow, $0) && $0.contains("  config.json:") })
      #expect(lines.contains { isStyled(red, $0) && $0.contains("special_tokens_map.json:") })
      // The lines of a text are indented, and coloured from their mark on.
      let texts = lines.filter { $0.hasPrefix("    ") }.map { String($0.dropFirst(4)) }
      #expect(texts.contains { isStyled(red, $0) && $0.contains("m-") && $0.contains("1e-05") })
      #expect(texts.contains { isStyled(green, $0) && $0.contains("m+") && $0.contains("2e-05") })
      #expect(lines.contains { isStyled(yellow, $0) && $0.contains("mlp.down_proj.weight") })
      #expect(!lines.contains { isStyled(yellow, $0) && $0.contains("norm.weight") })
      let other = try run(copy.path, path("a.slab"), "")
      #expect(other.contains { isStyled(green, $0) && $0.contains("special_tokens_map.json:") })

      let plain = try run(path("a.slab"), copy.path, "1")
      #expect(!plain.joined().contains("\u{1B}") && plain.count == lines.count)
      let piped = try quarry.run(["diff", path("a.slab"), copy.path])
      #expect(!piped.output.contains("\u{1B}"))
    }
  }
}
