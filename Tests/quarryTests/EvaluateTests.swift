import Foundation
import JSON
import Pebble
import TestSupport
import Testing

/// `quarry evaluate`, as a real process, on the bundled model.
@Suite struct EvaluateTests {
  private static let text = Place.goldens.appending(path: "text/quarry-handbook.txt").path

  private func evaluate(_ arguments: [String], input: String = "") throws -> JSONValue {
    let outcome = try quarry.run(["evaluate"] + arguments + ["--json"], input: input)
    try #require(outcome.status == 0, "\(outcome.errors)")
    return try JSONValue(parsing: outcome.output)
  }

  private func keys(_ value: JSONValue?) -> [String]? { value?.object?.members.map(\.key) }

  @Test func perplexityAlone() throws {
    let report = try evaluate(["--text", Self.text, "--windows", "2", "--context", "64"])
    #expect(
      keys(report) == [
        "model", "root_digest", "text", "context", "skip", "windows", "predictions",
        "activations", "kv", "loss", "perplexity", "by_window",
      ])
    #expect(report["model"] == "Pebble" && report["text"] == .string(Self.text))
    #expect(report["context"] == 64 && report["skip"] == 32 && report["windows"] == 2)
    #expect(report["predictions"] == 62)
    #expect(report["activations"] == "int8" && report["kv"] == "f16")
    let loss = try #require(report["loss"]?["mean"]?.double)
    #expect(
      abs(try #require(report["perplexity"]?["value"]?.double) - exp(loss)) < 1e-9 * exp(loss))
    let windows = try #require(report["by_window"]?.array)
    #expect(windows.map { keys($0)! } == [["loss"], ["loss"]])
    let losses = windows.compactMap { $0["loss"]?.double }
    #expect(abs(losses.reduce(0, +) / 2 - loss) < 1e-12)
  }

  @Test func besideItsCheckpoint() throws {
    let report = try evaluate(
      ["--text", Self.text, "--reference", Pebble.directory.path, "--windows", "1", "--layers"])
    #expect(
      keys(report) == [
        "model", "root_digest", "reference", "text", "context", "skip", "windows",
        "predictions", "activations", "kv", "loss", "perplexity", "reference_loss",
        "reference_perplexity", "log_perplexity_ratio", "kl", "same_best_token", "layers",
        "by_window",
      ])
    let estimate = ["mean", "standard_error", "window_standard_error"]
    #expect(keys(report["kl"]) == estimate + ["median", "percentile_99", "maximum"])
    #expect(keys(report["same_best_token"]) == estimate)
    // One window says nothing of the spread between windows.
    #expect(report["kl"]?["window_standard_error"] == .null)
    let values = ["median", "mean", "percentile_99", "maximum"].compactMap {
      report["kl"]?[$0]?.double
    }
    #expect(values.count == 4 && values == values.sorted() && values[0] > 0 && values[1] < 0.01)
    let window = try #require(report["by_window"]?.array?.first)
    #expect(keys(window) == ["loss", "reference_loss", "kl", "same_best_token"])
    #expect(window["kl"] == report["kl"]?["mean"])
    let layers = try #require(report["layers"]?.array)
    #expect(
      layers.count == 9 && layers.allSatisfy { keys($0) == ["depth", "cosine", "relative_error"] })
    let errors = layers.compactMap { $0["relative_error"]?.double }
    #expect(errors[0] > 0 && errors[0] < 0.01 && errors[8] > errors[1])
  }

  @Test func aSlabIsNoDistanceFromItself() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = directory.appending(path: "pebble.slab").path
      // As the bundled model is converted.
      let convert = ["convert", Pebble.directory.path, "-o", slab, "--calibration", "none"]
      try #require(quarry.run(convert).status == 0)
      let base = ["--text", "-", "--context", "48", "--skip", "3"]
      let text = String(try String(contentsOfFile: Self.text, encoding: .utf8).prefix(800))
      let report = try evaluate([slab, "--reference", slab] + base, input: text)
      #expect(report["kl"]?["mean"] == .double(0) && report["kl"]?["maximum"] == .double(0))
      #expect(report["same_best_token"]?["mean"] == .double(1))
      #expect(report["loss"] == report["reference_loss"])
      #expect(report["reference_root_digest"] == report["root_digest"])
      // Nor is the bundled model, which is the same slab, another one.
      let bundled = try evaluate(base, input: text)
      #expect(bundled["root_digest"] == report["root_digest"])
      #expect(bundled["loss"] == report["loss"])
      // A checkpoint is its own reference in float32, whatever slabs are run with.
      let checkpoint = try evaluate(
        [Pebble.directory.path, "--reference", Pebble.directory.path] + base, input: text)
      #expect(checkpoint["kl"]?["maximum"] == .double(0) && checkpoint["root_digest"] == nil)
      #expect(checkpoint["activations"] == "f32" && checkpoint["kv"] == "f32")
    }
  }

  @Test func aTableForPeople() throws {
    let outcome = try quarry.run([
      "evaluate", "--text", Self.text, "--windows", "2", "--context", "64", "--reference",
      Pebble.directory.path, "--layers",
    ])
    #expect(outcome.status == 0)
    for text in [
      "Pebble on ", "2 windows of 64 tokens", "perplexity of the reference",
      "KL divergence, median",
      "same best token, %", "embedding", "layer 7", "± over windows",
    ] {
      #expect(outcome.output.contains(text), "\(text)")
    }
  }

  @Test func referencesThatCannotBeCompared() throws {
    try Place.withTemporaryDirectory { directory in
      // The same model with two tokens of its vocabulary exchanged.
      let other = directory.appending(path: "other")
      try FileManager.default.copyItem(at: Pebble.directory, to: other)
      let file = other.appending(path: "tokenizer.json")
      let json = try String(contentsOf: file, encoding: .utf8)
        .replacing("\"a\":", with: "\"SWAP\":").replacing("\"b\":", with: "\"a\":")
        .replacing("\"SWAP\":", with: "\"b\":")
      try Data(json.utf8).write(to: file)
      let tiny = Place.goldens.appending(path: "checkpoints/granite-tied").path
      for (reference, message) in [
        (other.path, "the tokenizers of Pebble and \(other.path) differ"),
        (tiny, "vocabularies of 131 and 4099 tokens cannot be compared"),
        ("/nonexistent", "/nonexistent"),
      ] {
        let outcome = try quarry.run([
          "evaluate", "--text", Self.text, "--reference", reference, "--context", "64",
        ])
        #expect(outcome.status == 1 && outcome.output.isEmpty)
        #expect(outcome.errors.contains(message), "\(outcome.errors)")
      }
    }
  }
}
