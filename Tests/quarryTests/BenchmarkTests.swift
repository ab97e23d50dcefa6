import Foundation
import JSON
import ModelFiles
import TestSupport
import Testing

/// Measuring, and models to measure with, through the real program.
@Suite struct BenchmarkTests {
  private static let config = """
    {"model_type": "granite", "hidden_size": 256, "intermediate_size": 512,
     "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
     "vocab_size": 5000, "max_position_embeddings": 256, "tie_word_embeddings": true,
     "embedding_multiplier": 12.0, "attention_multiplier": 0.015625,
     "residual_multiplier": 0.22, "logits_scaling": 8.0, "eos_token_id": 0}
    """

  private func withConfig(_ body: (_ config: String, _ directory: URL) throws -> Void) throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "config.json")
      try Data(Self.config.utf8).write(to: path)
      try body(path.path, directory)
    }
  }

  @Test func measuresAShape() throws {
    try withConfig { config, directory in
      let arguments = ["bench", config, "--recipe", "q8s", "--prefill", "32,64", "--depths"]
      let outcome = try quarry.run(arguments + ["0,100,4096", "--repetitions", "2", "--json"])
      try #require(outcome.status == 0, "\(outcome.errors)")
      #expect(outcome.errors.contains("left out"))  // 4096 is beyond the context
      let report = try JSONValue(parsing: outcome.output)
      #expect(report["model"]?["recipe"] == "q8s")
      for key in ["linear_weights", "decoded_bytes_per_token", "cache_bytes_per_position"] {
        #expect(try #require(report["model"]?[key]?.integer) > 1000)
      }
      #expect(report["machine"]?["processor"]?.string?.isEmpty == false)
      #expect(try #require(report["machine"]?["threads"]?.integer) > 0)
      #expect(report["numerics"]?.integer == 1)
      #expect(try #require(report["load_seconds"]?.double) > 0)
      #expect(try #require(report["resident_bytes"]?.integer) > 1 << 20)
      let bandwidths = try #require(report["ceilings"]?["read_bytes_per_second"]?.object)
      #expect(bandwidths.members.map(\.key) == ["huge pages", "mapped file"])
      for (_, value) in bandwidths.members { #expect(try #require(value.double) > 1e8) }

      let results = try #require(report["results"]?.array)
      #expect(results.map { $0["phase"] } == ["prefill", "prefill", "decode", "decode"])
      #expect(results.map { $0["tokens"] } == [32, 64, 16, 16])
      #expect(results.map { $0["depth"] } == [0, 0, 0, 100])
      for result in results {
        #expect(try #require(result["tokens_per_second"]?.double) > 0)
        #expect(result["runs"]?.array?.count == 2)
        guard let share = result["share_of_ceiling"]?.double else {
          // Without vector kernels there is no int8 peak.
          #expect(
            result["phase"] == "prefill"
              && report["ceilings"]?["int8_operations_per_second"]?.isNull == true)
          continue
        }
        // The weights of so small a model are decoded from a cache, which is faster than memory.
        #expect(share > 0 && share < (result["phase"] == "decode" ? 100 : 1.5))
        let range = try #require(result["share_range"]?.array).compactMap { $0.double }
        #expect(range[0] <= share && share <= range[1])
      }

      // A second run, beside the first.
      let before = directory.appending(path: "before.json")
      try Data(outcome.output.utf8).write(to: before)
      let table = try quarry.run(
        arguments + ["0", "--repetitions", "1", "--compare", before.path, "--threads", "1"])
      #expect(table.status == 0)
      for text in ["prefill", "decode", "GB/s from mapped file", "against", "×", "1 threads"] {
        #expect(table.output.contains(text), "\(text)")
      }
    }
  }

  @Test func measuresKernels() throws {
    let outcome = try quarry.run(["bench", "--kernels", "--repetitions", "1", "--json"])
    #expect(outcome.status == 0)
    let rows = try #require(try JSONValue(parsing: outcome.output).array)
    #expect(Set(rows.map { $0["encoding"]?.string }) == ["q4b16", "q4b32", "q8b16", "q8b32"])
    for row in rows {
      let unit =
        row["tokens"]?.integer == 256 ? "operations_per_second" : "bytes_per_second"
      #expect(try #require(row[unit]?.double) > 1e6)
    }
  }

  @Test func synthesizesConvertsAndGenerates() throws {
    try withConfig { config, directory in
      func path(_ name: String) -> String { directory.appending(path: name).path }
      #expect(
        try quarry.run(["synthesize", config, "-o", path("model"), "--seed", "3"]).status == 0)
      let converted = try quarry.run(
        ["convert", path("model"), "-o", path("a.slab"), "--calibration", "none"])
      #expect(converted.status == 0)
      #expect(
        try quarry.run(["synthesize", config, "-o", path("b.slab"), "--slab", "--seed", "3"]).status
          == 0)
      #expect(try Slab(path: path("a.slab")).rootDigest == Slab(path: path("b.slab")).rootDigest)
      let outcome = try quarry.run(
        ["generate", path("b.slab"), "-p", "Stones", "--raw", "--max-tokens", "8", "--seed", "1"])
      #expect(outcome.status == 0)
      #expect(outcome.output.count > 1)
      // What exists stays.
      let again = try quarry.run(["synthesize", config, "-o", path("model")])
      #expect(again.status == 1 && again.errors.contains("exists already"))
      #expect(try quarry.run(["verify", path("b.slab")]).status == 0)
    }
  }
}
