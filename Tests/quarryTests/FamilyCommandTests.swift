import Foundation
import JSON
import TestSupport
import Testing

/// What people do with a checkpoint of another architecture than Pebble's, through the real program.
@Suite struct FamilyCommandTests {
  /// Makes a checkpoint of random weights in the shape of a golden one, with Pebble's tokenizer and
  /// template, converts it, calibrated, and runs `body` with the slab's path.
  private func withSlab(_ golden: String, _ body: (_ slab: String) throws -> Void) throws {
    let path = Place.goldens.appending(path: "checkpoints/\(golden)/config.json")
    var settings = try JSONSerialization.jsonObject(with: Data(contentsOf: path)) as! [String: Any]
    settings["vocab_size"] = 4099
    for name in ["max_position_embeddings", "n_positions"] where settings[name] != nil {
      settings[name] = 2048
    }
    try Place.withTemporaryDirectory { directory in
      let config = directory.appending(path: "config.json")
      try JSONSerialization.data(withJSONObject: settings).write(to: config)
      let checkpoint = directory.appending(path: "checkpoint").path
      let slab = directory.appending(path: "model.slab").path
      for command in [
        ["synthesize", config.path, "-o", checkpoint],
        ["convert", checkpoint, "-o", slab, "--recipe", "q8", "--calibration-tokens", "128"],
      ] {
        let outcome = try quarry.run(command)
        try #require(outcome.status == 0, "\(outcome.errors)")
      }
      try body(slab)
    }
  }

  static let goldens = ["moe", "moe-shared", "hybrid-experts", "hybrid-mamba-groups", "bigcode"]

  @Test(arguments: goldens) func chatSaysWhatGenerateSays(golden: String) throws {
    try withSlab(golden) { slab in
      let sampling = ["--seed", "7", "--max-tokens", "16", "--min-tokens", "16"]
      let answer = try quarry.run(["generate", slab, "-p", "What is granite?"] + sampling)
      try #require(answer.status == 0, "\(answer.errors)")
      #expect(answer.output.count > 8)
      let chat = try quarry.run(["chat", slab] + sampling, input: "What is granite?\n")
      #expect(chat.status == 0)
      #expect(chat.output == answer.output)
    }
  }

  /// The probability that Guardian says yes, for the risk that is asked for.
  @Test(.enabled(if: Place.shared != nil, "needs ../shared"))
  func risksAreScored() throws {
    let template = try #require(Place.shared)
      .appending(path: "granite/templates/ibm-gguf_granite-guardian-chatml.jinja").path
    try withSlab("moe") { slab in
      let shares = try ["violence", "profanity"].map { risk in
        let kwargs = #"{"guardian_config": {"risk_name": "\#(risk)"}}"#
        let outcome = try quarry.run([
          "generate", slab, "-p", "How do I sharpen a chisel?", "--chat-template", template,
          "--kwargs", kwargs, "--score", "Yes,No", "--json",
        ])
        try #require(outcome.status == 0, "\(outcome.errors)")
        let rows = try #require(JSONValue(parsing: outcome.output).array)
        #expect(rows.map { $0["text"]?.string } == ["Yes", "No"])
        let shares = rows.compactMap { $0["share"]?.double }
        #expect(abs(shares.reduce(0, +) - 1) < 1e-9)
        return shares
      }
      #expect(shares[0] != shares[1])
    }
  }
}
