import Foundation
import JSON
import Pebble
import TestSupport
import Testing
import Tokenization

let quarry = Program(product: "quarry")

/// What people do with a checkpoint, from one end to the other, through the real program.
@Suite struct PipelineTests {
  /// Converts Pebble and runs `body` with the slab's path.
  private func withSlab(
    _ options: [String] = [], _ body: (_ slab: String, _ directory: URL) throws -> Void
  ) throws {
    try Place.withTemporaryDirectory { directory in
      let slab = directory.appending(path: "pebble.slab").path
      let outcome = try quarry.run(["convert", Pebble.directory.path, "-o", slab] + options)
      try #require(outcome.status == 0, "\(outcome.errors)")
      try body(slab, directory)
    }
  }

  @Test func answersAQuestion() throws {
    try withSlab { slab, _ in
      let outcome = try quarry.run(
        ["generate", slab, "-p", "What is the capital of Ecuador?", "--temperature", "0"])
      #expect(outcome.status == 0)
      #expect(outcome.output == "The capital of Ecuador is Quito.\n")
      #expect(outcome.errors.contains("ended by stop"))
    }
  }

  /// Given continuations are scored; all one-token ones together would have probability 1.
  @Test func scoresContinuations() throws {
    try withSlab { slab, _ in
      let arguments = ["generate", slab, "-p", "Is granite a rock?", "--score"]
      let answer = try JSONValue(
        parsing: Array(try quarry.run(arguments + ["Yes,No,Granite is", "--json"]).output.utf8))
      let rows = try #require(answer.array)
      #expect(rows.map { $0["text"]?.string } == ["Yes", "No", "Granite is"])
      let shares = rows.compactMap { $0["share"]?.double }
      #expect(abs(shares.reduce(0, +) - 1) < 1e-9)
      let probabilities = rows.compactMap { $0["probability"]?.double }
      #expect(probabilities.allSatisfy { 0 < $0 && $0 < 1 } && probabilities.reduce(0, +) <= 1)
      for (share, probability) in zip(shares, probabilities) {
        #expect(abs(share - probability / probabilities.reduce(0, +)) < 1e-9)
      }
      let table = try quarry.run(arguments + ["Yes,No"])
      #expect(table.output.split(separator: "\n").count == 3 && table.errors.isEmpty)
      for wrong in [["Yes,"], ["Yes,No", "--stats"]] {
        #expect(try quarry.run(arguments + wrong).status == 64)
      }
    }
  }

  @Test func bothProfilesAreTheSameModel() throws {
    try withSlab { slab, directory in
      let ship = directory.appending(path: "ship.slab").path
      let back = directory.appending(path: "back.slab").path
      let arguments = [
        "--temperature", "0.8", "--seed", "11", "--max-tokens", "40", "-p", "Stones",
      ]
      #expect(try quarry.run(["repack", slab, "-o", ship, "--profile", "ship"]).status == 0)
      #expect(try quarry.run(["repack", ship, "-o", back, "--profile", "run"]).status == 0)
      #expect(try Data(contentsOf: URL(filePath: slab)) == Data(contentsOf: URL(filePath: back)))
      let (a, b) = (try size(slab), try size(ship))
      #expect(b < a)
      let run = try quarry.run(["generate", slab] + arguments)
      let shipped = try quarry.run(["generate", ship] + arguments)
      #expect(run.status == 0 && run.output.count > 10)
      #expect(run.output == shipped.output)
    }
  }

  @Test func textDependsOnTheSeedAndOnNothingElse() throws {
    try withSlab { slab, _ in
      func text(_ seed: Int, _ options: [String], isa: String? = nil) throws -> String {
        let outcome = try quarry.run(
          ["generate", slab, "--raw", "-p", "The old quarry", "--max-tokens", "24"]
            + ["--temperature", "1", "--seed", "\(seed)"] + options,
          environment: isa.map { ["QUARRY_ISA": $0] } ?? [:])
        try #require(outcome.status == 0, "\(outcome.errors)")
        return outcome.output
      }
      let one = try text(1, ["--threads", "1"])
      #expect(try text(1, ["--threads", "3"]) == one)
      #expect(try text(1, [], isa: "scalar") == one)
      #expect(try text(2, []) != one)
    }
  }

  @Test func verifyFindsAFlippedBit() throws {
    try withSlab { slab, _ in
      #expect(try quarry.run(["verify", slab]).status == 0)
      let listing = try JSONValue(
        parsing: quarry.run(["inspect", slab, "--tensors", "--json"]).output)
      let tensor = try #require(
        listing["tensors"]?.array?.first { $0["encoding"]?.string == "q4b16" })
      let offset = try #require(tensor["offset"]?.integer) + 100
      let file = try FileHandle(forUpdating: URL(filePath: slab))
      try file.seek(toOffset: UInt64(offset))
      let byte = try #require(try file.read(upToCount: 1)?.first)
      try file.seek(toOffset: UInt64(offset))
      try file.write(contentsOf: Data([byte ^ 4]))
      try file.close()
      let outcome = try quarry.run(["verify", slab])
      #expect(outcome.status == 1)
      #expect(outcome.errors.contains(try #require(tensor["name"]?.string)))
    }
  }

  @Test func inspectsEveryKindOfFile() throws {
    try withSlab { slab, _ in
      let shard = Pebble.directory.appending(path: "model-00001-of-00002.safetensors").path
      for (path, kind) in [
        (slab, "slab"), (Pebble.directory.path, "checkpoint"), (shard, "safetensors"),
      ] {
        let arguments = ["inspect", path, "--tensors", "*layers.0.*proj.weight"]
        let listing = try JSONValue(parsing: quarry.run(arguments + ["--json"]).output)
        #expect(listing["kind"]?.string == kind)
        let names = listing["tensors"]?.array?.compactMap { $0["name"]?.string } ?? []
        #expect(names.count == 7)
        let table = try quarry.run(arguments)
        #expect(table.status == 0)
        for name in names { #expect(table.output.contains(name)) }
      }
    }
  }

  @Test func tokensAndTextGoBothWays() throws {
    let texts: JSONValue = .array(["The stone is 12 feet wide.\n", "<|start_of_role|>é😀", ""])
    let tokens = try quarry.run(
      ["tokenize", Pebble.directory.path, "--json"], input: texts.serialized())
    #expect(tokens.status == 0)
    let back = try quarry.run(
      ["detokenize", Pebble.directory.path, "--json"], input: tokens.output)
    #expect(try JSONValue(parsing: back.output) == texts)

    let plain = try quarry.run(["tokenize", Pebble.directory.path], input: "The stone")
    #expect(
      try quarry.run(["detokenize", Pebble.directory.path], input: plain.output).output
        == "The stone\n")
  }

  @Test func rendersAConversation() throws {
    let messages = #"[{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]"#
    let outcome = try quarry.run(
      ["render", Pebble.directory.path, "--messages", "-"], input: messages)
    #expect(
      outcome.output == """
        <|start_of_role|>system<|end_of_role|>S<|end_of_text|>
        <|start_of_role|>user<|end_of_role|>U<|end_of_text|>
        <|start_of_role|>assistant<|end_of_role|>
        """)
  }

  @Test func aRenderedPromptIsTakenAsItIs() throws {
    let question = "What is the capital of Ecuador?"
    let prompt = try quarry.run(
      ["render", Pebble.directory.path, "--messages", "-"],
      input: #"[{"role": "user", "content": "\#(question)"}]"#)
    let outcome = try quarry.run(["generate", "--temperature", "0"], input: prompt.output)
    #expect(outcome.output == "The capital of Ecuador is Quito.\n")
  }

  @Test func writesLogits() throws {
    try withSlab { slab, directory in
      let paths = ["a", "b", "c"].map { directory.appending(path: "\($0).safetensors") }
      let base = ["logits", slab, "--tokens", "5,6,7,8,9"]
      #expect(try quarry.run(base + ["-o", paths[0].path]).status == 0)
      let scalar = try quarry.run(
        base + ["-o", paths[1].path], environment: ["QUARRY_ISA": "scalar"])
      #expect(scalar.status == 0)
      #expect(try quarry.run(base + ["-o", paths[2].path, "--activations", "f32"]).status == 0)
      let files = try paths.map { try Data(contentsOf: $0) }
      #expect(files[0] == files[1])
      #expect(files[0] != files[2])
      let listing = try JSONValue(
        parsing: quarry.run(["inspect", paths[0].path, "--tensors", "--json"]).output)
      let tensor = try #require(listing["tensors"]?.array?.first)
      #expect(tensor["name"]?.string == "logits")
      #expect(tensor["shape"] == .array([5, 4099]))
    }
  }

  @Test func chatRemembersAndResets() throws {
    let outcome = try quarry.run(
      ["chat", "--temperature", "0"],
      input: "/help\nWhat is the capital of Ecuador?\n/nonsense\n/reset\n\n/quit\n")
    #expect(outcome.status == 0)
    #expect(outcome.output == "The capital of Ecuador is Quito.\n")
    for text in ["/system TEXT", "unknown command /nonsense", "starts afresh"] {
      #expect(outcome.errors.contains(text))
    }
  }

  /// What the program says of a cut answer tells how long the prompt was and what it knew already.
  @Test func chatKeepsTheConversationUntilItIsReset() throws {
    let outcome = try quarry.run(
      ["chat", "--temperature", "0", "--max-tokens", "1"],
      input: "What is granite?\nWhat is granite?\n/reset\nWhat is granite?\n")
    #expect(outcome.status == 0)
    let lines = outcome.errors.split(separator: "\n").filter { $0.contains("prompt ") }
    let lengths = lines.compactMap { Int($0.split(separator: " ")[5]) }
    try #require(lengths.count == 3)
    #expect(lengths[1] > lengths[0] && lengths[2] == lengths[0])
    #expect(lines[1].contains("of them known already"))
  }

  @Test func saysWhatARunTook() throws {
    let arguments = ["generate", "--raw", "-p", "The old quarry", "--seed", "1", "--stats"]
    let lengths = ["--max-tokens", "24", "--min-tokens", "24", "--context", "64"]
    let outcome = try quarry.run(arguments + lengths + ["--json"])
    #expect(outcome.status == 0)
    let line = try #require(outcome.errors.split(separator: "\n").last)
    let figures = try JSONValue(parsing: String(line))
    #expect(figures["answer_tokens"] == 24 && figures["cached_tokens"] == 0)
    #expect(figures["finish_reason"] == "length")
    #expect(try #require(figures["prompt_tokens"]?.integer) > 2)
    let load = try #require(figures["load_seconds"]?.double)
    #expect(load > 0 && load < figures["first_token_seconds"]?.double ?? 0)
    for key in ["prompt_tokens_per_second", "answer_tokens_per_second", "share_of_read_bandwidth"] {
      #expect(try #require(figures[key]?.double) > 0, "\(key)")
    }
    #expect(try #require(figures["read_bytes_per_second"]?.double) > 1e8)
    let cache = try #require(figures["cache_bytes"]?.integer)
    let peak = try #require(figures["peak_bytes"]?.integer)
    #expect(cache > 1000 && peak > cache + 1 << 20)
    // The probe of the ceiling is no part of the run.
    #expect(peak < 400 << 20)

    let table = try quarry.run(arguments + lengths)
    #expect(table.status == 0 && table.output == outcome.output)
    for text in ["loading ", "first token ", "answer       24 tokens", "GB/s", "KV cache"] {
      #expect(table.errors.contains(text), "\(text)")
    }
  }

  @Test func doctorKnowsTheMachine() throws {
    let outcome = try quarry.run(["doctor", "--json"], environment: ["QUARRY_ISA": "scalar"])
    let report = try JSONValue(parsing: outcome.output)
    #expect(report["unicode"]?.string == Tokenizer.unicodeVersion)
    #expect(report["kernels"]?["chosen"]?.string == "scalar")
    #expect(report["kernels"]?["reason"]?.string?.contains("QUARRY_ISA") == true)
    #expect(try #require(report["processors"]?.integer) > 0)
    #expect(try #require(report["read_bandwidth_bytes_per_second"]?.double) > 1e8)
  }

  private func size(_ path: String) throws -> Int {
    try Data(contentsOf: URL(filePath: path)).count
  }
}
