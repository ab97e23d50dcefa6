import Foundation
import ModelFiles
import Pebble
import TestSupport
import Testing

/// `quarry export` as a program.
@Suite struct ExportCommandTests {
  @Test func anUnquantizedSlabIsItsCheckpointAgain() throws {
    try Place.withTemporaryDirectory { directory in
      func path(_ name: String) -> String { directory.appending(path: name).path }
      for arguments in [
        ["convert", Pebble.directory.path, "-o", path("a.slab"), "--recipe", "bf16"],
        ["export", path("a.slab"), "-o", path("out"), "--shard-size", "4MB"],
        ["diff", Pebble.directory.path, path("out")],
      ] {
        let outcome = try quarry.run(arguments)
        try #require(outcome.status == 0, "\(arguments[0]): \(outcome.errors)\(outcome.output)")
      }
      let again = try quarry.run(["export", path("a.slab"), "-o", path("out")])
      #expect(again.status == 1 && again.errors.contains("exists already"))
      let none = try quarry.run(["export", path("a.slab"), "-o", path("x"), "--to", "ggml"])
      #expect(none.status == 64 && none.errors.contains("safetensors"))
    }
  }

  @Test func aGGUFThatIsInspected() throws {
    try Place.withTemporaryDirectory { directory in
      func path(_ name: String) -> String { directory.appending(path: name).path }
      func run(_ arguments: String...) throws -> String {
        let outcome = try quarry.run(arguments)
        try #require(outcome.status == 0, "\(arguments[0]): \(outcome.errors)")
        return outcome.output
      }
      _ = try run("convert", Pebble.directory.path, "-o", path("a.slab"), "--calibration", "none")
      for (arguments, type) in [([], "f16"), (["--type", "q8_0"], "q8_0")] {
        let file = path(type + ".gguf")
        let outcome = try quarry.run(
          ["export", path("a.slab"), "--to", "gguf", "-o", file] + arguments)
        #expect(outcome.status == 0 && outcome.output.contains("of \(type) weights"))
        #expect(try run("inspect", file).lowercased().contains(type))
        #expect(try run("inspect", file, "--metadata").contains("tokenizer.chat_template"))
      }
      let other = try quarry.run(
        ["export", path("a.slab"), "--to", "gguf", "-o", path("x"), "--type", "f32"])
      #expect(other.status == 64 && other.errors.contains("--to gguf writes f16, bf16, q8_0"))
      let again = try quarry.run(
        ["export", path("a.slab"), "--to", "gguf", "-o", path("f16.gguf")])
      #expect(again.status == 1 && again.errors.contains("exists already"))
    }
  }

  @Test func compressedTensorsOfEightBits() throws {
    try Place.withTemporaryDirectory { directory in
      func path(_ name: String) -> String { directory.appending(path: name).path }
      func export(_ recipe: String) throws -> Program.Outcome {
        let slab = path(recipe + ".slab")
        let made = try quarry.run([
          "convert", Pebble.directory.path, "-o", slab, "--recipe", recipe, "--calibration", "none",
        ])
        try #require(made.status == 0, "\(made.errors)")
        return try quarry.run(["export", slab, "--to", "compressed-tensors", "-o", path("out")])
      }
      let four = try export("q4s")
      #expect(four.status == 1 && four.errors.contains("codebook"))
      #expect(four.errors.contains("--recipe q8") && four.errors.contains("--to safetensors"))
      #expect(!FileManager.default.fileExists(atPath: path("out")))
      let eight = try export("q8s")
      #expect(eight.status == 0 && eight.output.contains("of 8-bit and bf16 weights"))
      #expect(eight.output.contains(/Added error.*: NMSE [0-9.]+e-05; most in model\.layers/))
      let listed = try quarry.run(["inspect", path("out/model.safetensors"), "--tensors"])
      #expect(listed.output.contains("mlp.down_proj.weight_packed"))
      #expect(!FileManager.default.fileExists(atPath: path("out.partial")))
    }
  }

  /// Of a mixture, how many bytes were left as they are is said; llama.cpp's names are understood.
  @Test func mixturesOfExperts() throws {
    try Place.withTemporaryDirectory { directory in
      func path(_ name: String) -> String { directory.appending(path: name).path }
      func run(_ arguments: String...) throws -> String {
        let outcome = try quarry.run(arguments)
        try #require(outcome.status == 0, "\(arguments[0]): \(outcome.errors)")
        return outcome.output
      }
      let json = """
        {"model_type": "granitemoeshared", "hidden_size": 64, "intermediate_size": 32,
         "shared_intermediate_size": 64, "num_local_experts": 16, "num_experts_per_tok": 2,
         "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "vocab_size": 99, "max_position_embeddings": 128, "tie_word_embeddings": true}
        """
      try Data(json.utf8).write(to: directory.appending(path: "config.json"))
      _ = try run("synthesize", path("config.json"), "-o", path("checkpoint"))
      _ = try run(
        "convert", path("checkpoint"), "-o", path("a.slab"), "--recipe", "q8", "--calibration",
        "none")
      let said = try run("export", path("a.slab"), "--to", "compressed-tensors", "-o", path("ct"))
      #expect(said.contains("Experts stay bf16: 384.00 KiB."))  // 2 · 16 · 3 · 32 · 64 · 2
      _ = try run("export", path("a.slab"), "--to", "gguf", "--type", "q8_0", "-o", path("a.gguf"))
      let listed = try run("inspect", path("a.gguf"), "--tensors")
      #expect(listed.contains("blk.1.ffn_up_exps.weight"))
      #expect(try run("inspect", path("a.gguf")).contains(/experts +16/))
    }
  }

  /// An interrupted export leaves nothing; a killed one is taken over.
  @Test func interruptedExports() throws {
    try Place.withTemporaryDirectory { directory in
      let checkpoint = try SyntheticCheckpoint.make(in: directory, layers: 12, hiddenSize: 768)
      let slab = directory.appending(path: "a.slab").path
      let output = directory.appending(path: "out")
      let partial = output.path + ".partial"
      let made = try quarry.run(["convert", checkpoint.path, "-o", slab, "--recipe", "f32"])
      try #require(made.status == 0, "\(made.errors)")
      func run(_ signal: Int32) throws -> Program.Outcome {
        try quarry.run(["export", slab, "-o", output.path, "--type", "f32", "--threads", "1"]) {
          process, _ in
          while process.isRunning, !FileManager.default.fileExists(atPath: partial) { usleep(500) }
          if process.isRunning { kill(process.processIdentifier, signal) }
        }
      }
      let files = try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
      let interrupted = try run(SIGINT)
      #expect(interrupted.status == 130 && interrupted.errors.contains("nothing is left"))
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted() == files)
      _ = try run(SIGKILL)
      #expect(FileManager.default.fileExists(atPath: partial))
      #expect(!FileManager.default.fileExists(atPath: output.path))
      let whole = try quarry.run(["export", slab, "-o", output.path, "--type", "f32"])
      #expect(whole.status == 0, "\(whole.errors)")
      #expect(!FileManager.default.fileExists(atPath: partial))
      #expect(try quarry.run(["diff", checkpoint.path, output.path]).status == 0)
    }
  }
}
