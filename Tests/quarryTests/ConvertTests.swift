import Foundation
import JSON
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Testing

/// What `quarry convert` says before, during and after the work.
@Suite struct ConvertTests {
  private static let pebble = Pebble.directory.path
  private static let recipe = """
    name: mixed
    base: q4
    rules:
      - {roles: value, encoding: q8b16}
      - {roles: down, first: 2, last: 1, encoding: q8b16}
      - {roles: output, encoding: q8b32}
    """

  private static func lines(_ text: String) -> [String] {
    text.split(separator: "\n").map(String.init)
  }

  /// Tensors that came from the checkpoint.
  private static func tensors(_ slab: Slab) -> [SlabTensor] {
    slab.tensors.filter { !$0.name.hasSuffix(".column_scales") }
  }

  private static func names(_ events: [JSONValue], _ event: String) -> [String] {
    events.filter { $0["event"]?.string == event }.compactMap { $0["name"]?.string }
  }

  // MARK: - Dry runs

  @Test func dryRunSaysWhatWouldComeOfIt() throws {
    try Place.withTemporaryDirectory { directory in
      let file = directory.appending(path: "r.yaml")
      try Data(Self.recipe.utf8).write(to: file)
      let slab = directory.appending(path: "x.slab").path
      let arguments = ["convert", Self.pebble, "-o", slab, "--recipe", file.path]
      let dry = try quarry.run(arguments + ["--dry-run", "--json"])
      try #require(dry.status == 0, "\(dry.errors)")
      #expect(Self.lines(dry.output).count == 1)
      #expect(dry.errors.contains("rule 3") && dry.errors.contains("matches no tensor"))
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["r.yaml"])
      let run = try JSONValue(parsing: dry.output)
      #expect(run["event"] == "dry run" && run["problem"] == .null)
      #expect(run["recipe"] == "mixed" && run["warnings"]?.array?.count == 1)
      for key in ["estimated_seconds", "estimated_decode_tokens_per_second_at_most"] {
        #expect(run[key]?.double ?? 0 > 0, "\(key)")
      }

      // What came of it.
      let made = try quarry.run(arguments)
      try #require(made.status == 0, "\(made.errors)")
      let result = try Slab(path: slab)
      let tensors = try #require(run["tensors"]?.array)
      #expect(tensors.count == Self.tensors(result).count)
      for tensor in tensors {
        let name = try #require(tensor["name"]?.string)
        let stored = try #require(result.tensor(named: name))
        #expect(tensor["encoding"]?.string == stored.encoding.name, "\(name)")
        #expect(tensor["bytes"]?.integer == stored.logicalByteCount, "\(name)")
        let rule = tensor["rule"]?.integer
        switch tensor["role"]?.string {
        case "value": #expect(rule == 1)
        case "down": #expect(rule == ([0, 1, 7].contains(tensor["layer"]?.integer) ? 2 : 6))
        case "embedding": #expect(rule == 5)
        case "norm": #expect(rule == nil)
        default: #expect(rule == 6)
        }
      }
      let yaml = directory.appending(path: "again.yaml")
      try Data(try #require(run["recipe_yaml"]?.string).utf8).write(to: yaml)
      #expect(
        try quarry.run(["convert", Self.pebble, "-o", slab, "--force", "--recipe", yaml.path])
          .status == 0)
      #expect(try Slab(path: slab).rootDigest == result.rootDigest)
      #expect(try Slab(path: slab).metadata == result.metadata)
    }
  }

  @Test func dryRunForPeople() throws {
    let groups = try quarry.run(["convert", Self.pebble, "--dry-run"])
    #expect(groups.status == 0)
    for text in ["attention-output", "q4b16", "0-7", "bits per weight", "8192 tokens", "tokens/s"] {
      #expect(groups.output.contains(text), "\(text)")
    }
    #expect(!groups.output.contains("model.layers.3.mlp.up_proj.weight"))
    let all = try quarry.run(["convert", Self.pebble, "--dry-run", "--verbose"])
    #expect(all.status == 0 && all.output.contains("model.layers.3.mlp.up_proj.weight"))
  }

  /// A dry run fails for the reason for which a conversion would.
  @Test func dryRunFailsWhereAConversionWould() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = directory.appending(path: "x.slab")
      try Data("mine".utf8).write(to: slab)
      let missing = directory.appending(path: "none/x.slab").path
      for (output, reason) in [
        (slab.path, "the output exists"), (directory.path + "/", "not a file name"),
        (missing, "No such file or directory"), (directory.path, "no regular file"),
      ] {
        let arguments = ["convert", Self.pebble, "-o", output]
        let dry = try quarry.run(arguments + ["--dry-run"])
        #expect(dry.status == 1 && dry.errors.contains(reason), "\(dry.errors)")
        #expect(dry.output.contains("bits per weight"))
        let real = try quarry.run(arguments)
        #expect(real.status == 1, "\(real.errors)")
        let json = try quarry.run(arguments + ["--dry-run", "--json"])
        let problem = try JSONValue(parsing: json.output)["problem"]?.string
        #expect(json.status == 1 && problem?.contains(reason) == true)
      }
      #expect(try Data(contentsOf: slab) == Data("mine".utf8))
      let forced = ["convert", Self.pebble, "-o", slab.path, "--dry-run", "--force"]
      #expect(try quarry.run(forced).status == 0)
      #expect(try Data(contentsOf: slab) == Data("mine".utf8))
    }
  }

  // MARK: - Progress

  @Test func eventsForPrograms() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = directory.appending(path: "x.slab").path
      let outcome = try quarry.run(["convert", Self.pebble, "-o", slab, "--json"])
      try #require(outcome.status == 0, "\(outcome.errors)")
      #expect(!outcome.errors.contains("\r"))
      let events = try Self.lines(outcome.output).map { try JSONValue(parsing: $0) }
      let result = try Slab(path: slab)
      let (first, last) = (try #require(events.first), try #require(events.last))
      #expect(first["event"] == "begin" && first["tensors"]?.integer == Self.tensors(result).count)
      let names = Self.names(events, "tensor")
      let calibrations = events.filter { $0["event"]?.string == "calibration" }
      #expect(events.count == names.count + calibrations.count + 2)
      #expect(names.sorted() == Self.tensors(result).map(\.name).sorted())
      let tensors = events.filter { $0["event"]?.string == "tensor" }
      for (index, event) in tensors.enumerated() {
        #expect(event["done_tensors"]?.integer == index + 1)
        let stored = try #require(result.tensor(named: names[index]))
        #expect(event["encoding"]?.string == stored.encoding.name)
        #expect(
          event["error"]?["normalized_mean_squared_error"]?.double
            == stored.statistics?.normalizedMeanSquaredError)
        #expect(event["error"]?["weighted_error"]?.double == stored.statistics?.weightedError)
      }
      // Every layer says how far it is with the text, before any of its tensors.
      for layer in 0..<8 {
        let own = calibrations.filter { $0["layer"]?.integer == layer }
        let done = own.compactMap { $0["done_tokens"]?.integer }
        #expect(done == Array(stride(from: 0, through: 4096, by: 512)))
        #expect(
          own.allSatisfy { $0["total_tokens"]?.integer == 4096 && $0["layers"]?.integer == 8 })
        #expect(own.allSatisfy { $0["done_tensors"] == nil })
        let bytes = Set(own.compactMap { $0["done_bytes"]?.integer })
        #expect(bytes.count == 1 && (bytes.first == 0) == (layer == 0))
      }
      let done = events.compactMap { $0["done_bytes"]?.integer }
      #expect(done == done.sorted() && done.last == first["source_bytes"]?.integer)
      #expect(last["event"] == "end" && last["root_digest"]?.string == "\(result.rootDigest)")
      #expect(last["slab_bytes"]?.integer == result.fileByteCount)
      #expect(last["resumed_after"] == .null)
      #expect(last["kinds"]?.array?.count == 9)
      for kind in last["kinds"]?.array ?? [] {
        let isQuantized = kind["encoding"]?.string?.hasPrefix("q") == true
        #expect((kind["weighted_error"]?.double ?? -1 >= 0) == isQuantized, "\(kind)")
      }
      #expect(last["calibration"]?.string == result.metadata["calibration"])
    }
  }

  @Test func errorsAreEventsToo() throws {
    let outcome = try quarry.run(["convert", "/nowhere", "-o", "/nowhere.slab", "--json"])
    #expect(outcome.status == 1 && outcome.errors.contains("/nowhere"))
    let events = try Self.lines(outcome.output).map { try JSONValue(parsing: $0) }
    #expect(events.count == 1 && events[0]["event"] == "error")
    #expect(events[0]["message"]?.string?.contains("/nowhere") == true)
  }

  @Test func verboseHasALineForEachTensor() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = directory.appending(path: "x.slab").path
      let outcome = try quarry.run(["convert", Self.pebble, "-o", slab, "-v"])
      try #require(outcome.status == 0, "\(outcome.errors)")
      let count = Self.tensors(try Slab(path: slab)).count
      let lines = Self.lines(outcome.errors).filter { $0.hasPrefix("[") }
      #expect(lines.count == count && lines.last?.hasPrefix("[\(count)/\(count)]") == true)
      #expect(
        lines.contains {
          $0.contains("model.layers.3.mlp.up_proj.weight 768×256 BF16 → q4b16")
            && $0.contains("NMSE") && $0.contains("weighted")
        })
      let layers = Self.lines(outcome.errors).filter { $0.hasPrefix("layer ") }
      #expect(layers.count == 8)
      #expect(layers.last == "layer 8 of 8: reading 4096 tokens of the calibration text")
      #expect(outcome.output.contains(" NMSE  ") && outcome.output.contains("weighted"))
      // The report goes to standard output as ever.
      #expect(outcome.output.contains("root ") && !outcome.output.contains("["))
    }
  }

  // MARK: - Recipes

  @Test func recipesThatAreNone() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = directory.appending(path: "x.slab").path
      let file = directory.appending(path: "r.yaml")
      func convert(_ yaml: String) throws -> Program.Outcome {
        try Data(yaml.utf8).write(to: file)
        return try quarry.run(["convert", Self.pebble, "-o", slab, "--recipe", file.path])
      }
      let unknown = try convert("base: q4\nrules:\n  - {roles: expert, encoding: q8b16}\n")
      #expect(unknown.status == 1 && unknown.errors.contains("r.yaml:3: unknown role expert;"))
      let unmatched = try convert("rules: [{roles: mlp, encoding: q8b16}]")
      #expect(
        unmatched.status == 1 && unmatched.errors.contains("no rule matches 33 of the matrices"))
      let long = try convert("# " + String(repeating: "x", count: 1 << 20))
      #expect(long.status == 1 && long.errors.contains("at most 65535 bytes"))
      let missing = try quarry.run(
        ["convert", Self.pebble, "-o", slab, "--recipe", directory.path + "/none.yaml"])
      #expect(missing.status == 1 && missing.errors.contains("none.yaml"))
      for name in ["q5", ""] {
        let preset = try quarry.run(["convert", Self.pebble, "-o", slab, "--recipe", name])
        #expect(preset.status == 64 && preset.errors.contains("q4s"), "\(preset.errors)")
      }
      #expect(!FileManager.default.fileExists(atPath: slab))
      #expect(try quarry.run(["convert", Self.pebble]).status == 64)
    }
  }
}
