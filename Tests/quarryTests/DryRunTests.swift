import Foundation
import JSON
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Testing

/// `quarry convert --dry-run`: what it says is what comes of it, and nothing is written.
@Suite struct DryRunTests {
  private static let twoBillion = """
    {"architectures": ["GraniteForCausalLM"], "model_type": "granite", "hidden_size": 2048,
    "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 8192, "vocab_size": 49155, "max_position_embeddings": 131072,
    "rope_theta": 10000000.0, "rms_norm_eps": 1e-05, "hidden_act": "silu",
    "tie_word_embeddings": true, "embedding_multiplier": 12.0, "attention_multiplier": 0.015625,
    "residual_multiplier": 0.22, "logits_scaling": 8.0, "eos_token_id": 0, "bos_token_id": 0,
    "pad_token_id": 0}
    """

  private func dryRun(_ checkpoint: String, _ options: [String]) throws -> JSONValue {
    let outcome = try quarry.run(["convert", checkpoint, "--dry-run", "--json"] + options)
    try #require(outcome.status == 0, "\(outcome.errors)")
    return try JSONValue(parsing: outcome.output)
  }

  @Test(arguments: [
    (["--recipe", "q4"], 0.04), (["--recipe", "q4s", "--calibration", "none"], 0.01),
    (["--recipe", "q8", "--calibration-tokens", "512"], 0.04), (["--recipe", "bf16"], 0.005),
    (["--profile", "ship"], 1.2),
  ])
  func figuresAreThoseOfTheConversion(_ options: [String], _ slack: Double) throws {
    try Place.withTemporaryDirectory { directory in
      let dry = try dryRun(Pebble.directory.path, options)
      let path = directory.appending(path: "x.slab").path
      let made = try quarry.run(
        ["convert", Pebble.directory.path, "-o", path, "--json"] + options)
      try #require(made.status == 0, "\(made.errors)")
      let end = try JSONValue(parsing: String(made.output.split(separator: "\n").last!))
      for key in ["bits_per_weight", "weights", "source_bytes", "recipe", "profile"] {
        #expect(dry[key] == end[key], "\(key)")
      }
      let size = try Data(contentsOf: URL(filePath: path)).count
      let least = try #require(dry["slab_bytes_at_least"]?.integer)
      let most = try #require(dry["slab_bytes_at_most"]?.integer)
      #expect(least <= size && size <= most)
      #expect(Double(most - least) <= slack * Double(size), "\(least) \(size) \(most)")
      let journal = try #require(dry["journal_bytes_at_most"]?.integer)
      #expect(try #require(dry["disk_bytes_needed"]?.integer) == most + journal + 16 << 20)
    }
  }

  /// What a token reads and multiplies is what a benchmark of the slab says.
  @Test func workOfATokenIsThatOfTheSlab() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "x.slab").path
      let options = ["--calibration", "none"]
      let dry = try dryRun(Pebble.directory.path, options)
      let made = try quarry.run(["convert", Pebble.directory.path, "-o", path] + options)
      try #require(made.status == 0, "\(made.errors)")
      let measured = try quarry.run(
        ["bench", path, "--prefill", "", "--depths", "0", "--repetitions", "1", "--json"])
      let model = try #require(try JSONValue(parsing: measured.output)["model"])
      for key in ["linear_weights", "decoded_bytes_per_token"] {
        #expect(try #require(dry[key]?.integer) > 1 << 20)
        #expect(dry[key] == model[key], "\(key)")
      }
    }
  }

  /// Files of the right lengths with nothing in them are enough.
  @Test func aBigCheckpointOfHeadersAlone() throws {
    try Place.withTemporaryDirectory { parent in
      let config = parent.appending(path: "config.json")
      try Data(Self.twoBillion.utf8).write(to: config)
      let directory = parent.appending(path: "empty")
      let made = try quarry.run(["synthesize", config.path, "-o", directory.path, "--headers"])
      try #require(made.status == 0 && made.output.contains("left out"), "\(made.errors)")
      let tokenizer = directory.appending(path: "tokenizer.json")
      let files = try FileManager.default.subpathsOfDirectory(atPath: directory.path).sorted()
      let dry = try dryRun(directory.path, ["--context", "1000,131072"])
      // 40 layers of 2·2048² + 2·512·2048 + 3·8192·2048 and two norms, a norm, the embedding.
      let layer = 2 * 2048 * 2048 + 2 * 512 * 2048 + 3 * 8192 * 2048
      #expect(dry["weights"]?.integer == 40 * (layer + 2 * 2048) + 2048 + 49155 * 2048)
      #expect(dry["source_bytes"]?.integer == 2 * (dry["weights"]?.integer ?? 0))
      let size = try #require(dry["slab_bytes_at_most"]?.integer)
      #expect(try #require(dry["slab_bytes_at_least"]?.integer) > size - size / 200)
      // Two journals of the hidden states of 4096 tokens.
      #expect(try #require(dry["journal_bytes_at_most"]?.integer) > 2 * 4096 * 2048 * 4)

      let memory = try #require(dry["memory"]?.array)
      #expect(
        memory.map { "\($0["context"]?.integer ?? 0) \($0["kv"]?.string ?? "")" }
          == ["1000 f32", "1000 f16", "1000 q8", "131072 f32", "131072 f16", "131072 q8"])
      // 40 layers of 8 heads of 64 elements, keys and values; in q8 a scale for each head of both.
      let perToken = 40 * 8 * 64 * 2
      #expect(
        memory.suffix(3).map { $0["cache_bytes"]?.integer }
          == [4, 2, 1].map { perToken * $0 * 131072 + ($0 == 1 ? 40 * 8 * 2 * 4 * 131072 : 0) })
      #expect(memory[1]["cache_bytes"]?.integer == perToken * 2 * 1024)  // tiles of 256
      for entry in memory {
        let rest =
          (entry["total_bytes"]?.integer ?? 0) - (entry["cache_bytes"]?.integer ?? 0)
        #expect(rest > size * 99 / 100 && rest < size * 11 / 10)
      }
      #expect(
        try FileManager.default.subpathsOfDirectory(atPath: directory.path).sorted() == files)

      let text = try quarry.run(["convert", directory.path, "--dry-run"])
      for line in [
        "with q8", "131072 tokens", "to go on after an interruption", "about ", "calibrating ",
      ] {
        #expect(text.output.contains(line), "\(line)")
      }

      // Without a tokenizer there will be no calibration, and it is not counted.
      try FileManager.default.removeItem(at: tokenizer)
      let bare = try quarry.run(["convert", directory.path, "--dry-run"])
      #expect(bare.errors.contains("warning: no calibration"))
      #expect(bare.output.contains("quantizing ") && !bare.output.contains("calibrating "))
      let journal = try dryRun(directory.path, [])["journal_bytes_at_most"]?.integer
      #expect(try #require(journal) < 4096 * 2048 * 4)
    }
  }

  @Test func everyKeyIsDocumented() throws {
    let help = try quarry.run(["convert", "--help"]).output
    let dry = try dryRun(Pebble.directory.path, [])
    let first = try #require(dry["tensors"]?.array?.first)
    let memory = try #require(dry["memory"]?.array?.first)
    let words = Set(help.split { !($0.isLetter || $0.isNumber || $0 == "_") }.map(String.init))
    for object in [dry, first, memory] {
      for (key, _) in try #require(object.object).members { #expect(words.contains(key), "\(key)") }
    }
  }

  @Test(arguments: [["--context", "4096"], ["--dry-run", "--context", "0"]])
  func explainsUsage(_ options: [String]) throws {
    let outcome = try quarry.run(["convert", Pebble.directory.path, "-o", "never.slab"] + options)
    #expect(outcome.status == 64 && outcome.errors.contains("--context"))
  }

  /// What a conversion would fail for, too: a text that is not there.
  @Test func aMissingCalibrationText() throws {
    let outcome = try quarry.run(
      ["convert", Pebble.directory.path, "--dry-run", "--calibration", "/nonexistent.txt"])
    #expect(outcome.status == 1 && outcome.errors.contains("/nonexistent.txt"))
  }
}
