import Foundation
import JSON
import ModelFiles
import Pebble
import TestSupport
import Testing

/// Failures as people meet them: one clear sentence, an exit code, nothing lost.
@Suite struct FailureTests {
  @Test(arguments: [
    (["generate", "/nonexistent.slab", "-p", "x"], "/nonexistent.slab"),
    (["convert", "/nonexistent", "-o", "out.slab"], "/nonexistent"),
    (["verify", "/dev/null"], "/dev/null"),
    (["inspect", "/nonexistent"], "/nonexistent: cannot open"),
    (["inspect", "/dev/zero"], "not a regular file"),
    (
      ["inspect", Pebble.directory.path + "/config.json"],
      "config.json: neither a slab nor a GGUF file nor a safetensors file"
    ),
    (["bench", "/nonexistent.slab"], "/nonexistent.slab"),
    (["bench", "/dev/null.json"], "/dev/null.json"),
    (["bench", "--prefill", "", "--depths", "9999999"], "nothing to measure"),
    (["synthesize", "/nonexistent", "-o", "never"], "/nonexistent"),
    (
      ["synthesize", Pebble.directory.path + "/config.json", "-o", "/nonexistent/never"],
      "/nonexistent: cannot inspect: No such file or directory"
    ),
    (
      ["synthesize", Pebble.directory.path + "/tokenizer_config.json", "-o", "never"],
      "tokenizer_config.json: model_type is missing"
    ),
    (
      ["bench", "--compare", Pebble.directory.path + "/config.json"], "config.json is not a report"
    ),
    (["tokenize", "/nonexistent"], "/nonexistent"),
    (["evaluate", "--text", "/nonexistent"], "cannot read /nonexistent"),
    (["evaluate", "/nonexistent.slab", "--text", "/dev/null"], "/nonexistent.slab"),
    (["evaluate", "--text", "/dev/null"], "the text has 0 tokens, less than one window of 512"),
    (
      [
        "evaluate", "--text", Pebble.directory.path + "/config.json", "--context", "99999999",
      ], "less than one window"
    ),
    (
      ["evaluate", Place.goldens.appending(path: "checkpoints/llama").path, "--text", "/dev/null"],
      "has no tokenizer.json, so it cannot read a text"
    ),
    (["generate", "-p", "x", "--context", "999999999"], "context"),
    (["generate", "-p", "x", "--kwargs", "[]"], "--kwargs must be a JSON object"),
    (["logits", "--tokens", "1,999999", "-o", "/tmp/never.safetensors"], "999999"),
    (["logits", "--tokens", "1,a", "-o", "/tmp/never.safetensors"], "'a'"),
    (["logits", "--tokens", "1,,2", "-o", "/tmp/never.safetensors"], "''"),
    (["logits", "--text", "", "-o", "/tmp/never.safetensors"], "no token"),
    (["logits", "--tokens", "1", "-o", "/dev/null"], "no regular file"),
    (["generate", Pebble.directory.path, "-p", "x"], "quarry convert"),
    (["generate", "-p", "<|start_of_role|>user", "--system", "x"], "no place for --system"),
    (["generate", "-f", "/"], "cannot read /: Is a directory"),
    (["generate", "-p", "x", "--chat-template", "/none"], "cannot read /none: No such file"),
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
    ["bench", "x.slab", "--shape", "2b"], ["bench", "x.slab", "--recipe", "q8"],
    ["bench", "--prefill", "a"], ["bench", "--prefill", "128,0"],
    ["bench", "--kernels", "--shape", "2b"],
    ["generate", "-p", "x", "--json"], ["generate", "-p", "x", "--load", "disk"],
    ["synthesize", "x.json", "-o", "y", "--recipe", "q4"],
    ["generate", "-p", "x", "--messages", "y"], ["generate", "--messages", "x", "--system", "y"],
    ["generate", "--top-p", "7"], ["generate", "--max-tokens", "-1"], ["chat", "--min-p", "nan"],
    ["generate", "--logit-bias", "7"], ["generate", "--date", "2025-13-01"],
    ["evaluate"], ["evaluate", "--text", "x", "--layers"],
    ["evaluate", "--text", "x", "--windows", "0"],
    ["evaluate", "--text", "x", "--context", "1"], ["evaluate", "--text", "x", "--skip", "511"],
    ["generate", "--date", "2025-02-29"], ["generate", "--date", "2025-3-1"],
  ])
  func explainsUsage(_ arguments: [String]) throws {
    let outcome = try quarry.run(arguments)
    #expect(outcome.status == 64)
    #expect(outcome.errors.contains("Error: "))
    #expect(outcome.errors.contains("Usage: "))
  }

  @Test(arguments: [
    "convert", "inspect", "verify", "repack", "generate", "chat", "render", "logits", "tokenize",
    "detokenize", "doctor", "bench", "synthesize", "evaluate",
  ])
  func everyCommandHasExamples(_ command: String) throws {
    let outcome = try quarry.run([command, "--help"])
    #expect(outcome.status == 0)
    #expect(outcome.output.contains("EXAMPLES\n"))
    #expect(outcome.output.contains("quarry \(command)"))
  }

  @Test func warnsOfFilesThatTextNeeds() throws {
    try Place.withTemporaryDirectory { directory in
      let checkpoint = directory.appending(path: "checkpoint")
      try FileManager.default.copyItem(at: Pebble.directory, to: checkpoint)
      try Data("{".utf8).write(to: checkpoint.appending(path: "tokenizer.json"))
      try Data("{% if %}".utf8).write(to: checkpoint.appending(path: "chat_template.jinja"))
      let output = directory.appending(path: "out.slab").path
      let outcome = try quarry.run(["convert", checkpoint.path, "-o", output])
      #expect(outcome.status == 0)
      #expect(outcome.errors.contains("warning: tokenizer.json cannot be executed"))
      #expect(outcome.errors.contains("warning: the slab will need another template"))
    }
  }

  @Test(arguments: ["", "/nonexistent/", "/tmp/"])
  func refusesOutputsThatAreNoNames(_ output: String) throws {
    for arguments in [
      ["convert", Pebble.directory.path], ["logits", "--tokens", "1"],
    ] {
      let outcome = try quarry.run(arguments + ["-o", output])
      #expect(outcome.status == 1)
      #expect(outcome.errors.contains("the output is not a file name"), "\(outcome.errors)")
    }
  }

  @Test func readsPipes() throws {
    try Place.withTemporaryDirectory { directory in
      let pipe = directory.appending(path: "pipe").path
      #expect(mkfifo(pipe, 0o600) == 0)
      let refused = try quarry.run(["inspect", pipe])
      #expect(refused.errors.contains("not a regular file"))
      let outcome = try quarry.run(["render", Pebble.directory.path, "--messages", pipe]) {
        process, _ in
        while process.isRunning {
          let descriptor = open(pipe, O_WRONLY | O_NONBLOCK)  // fails until somebody reads
          if descriptor >= 0 {
            let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
            return try file.write(contentsOf: Data(#"[{"role": "user", "content": "Hi"}]"#.utf8))
          }
          usleep(1000)
        }
      }
      #expect(outcome.status == 0)
      #expect(outcome.output.contains("Hi"))
    }
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

  @Test func logitsNeverReplaceTheirModel() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = directory.appending(path: "model.slab").path
      let link = directory.appending(path: "link").path
      try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: slab)
      #expect(try quarry.run(["convert", Pebble.directory.path, "-o", slab]).status == 0)
      for output in [slab, link] {
        let outcome = try quarry.run(["logits", slab, "--tokens", "1", "-o", output])
        #expect(outcome.status == 1)
        #expect(outcome.errors.contains("the output is the input"))
      }
      #expect(try quarry.run(["verify", slab]).status == 0)
    }
  }

  @Test func saysWhenTheOutputIsFull() throws {
    let outcome = try quarry.run(
      ["inspect", Pebble.directory.path], output: URL(filePath: "/dev/full"))
    #expect(outcome.status == 1)
    #expect(
      outcome.errors == "Error: cannot write to standard output: No space left on device\n")
  }

  /// `quarry generate … | head -1`: no crash, and so nothing half-written by commands that write files.
  @Test func endsQuietlyWhereNobodyReads() throws {
    let pipe = Pipe()
    try pipe.fileHandleForReading.close()
    let process = Process()
    process.executableURL = quarry.executable
    process.arguments = ["inspect", Pebble.directory.path]
    process.standardOutput = pipe
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationReason == .exit)
    #expect(process.terminationStatus == 1)
  }

  @Test(arguments: ["convert", "repack", "synthesize"], [SIGINT, SIGTERM])
  func aSignalLeavesNothingOfASlab(_ command: String, _ signal: Int32) throws {
    try Place.withTemporaryDirectory { directory in
      let checkpoint = try SyntheticCheckpoint.make(in: directory, layers: 12, hiddenSize: 768)
      let output = directory.appending(path: "out.slab")
      var arguments = ["convert", checkpoint.path, "-o", output.path, "--threads", "1"]
      if command == "repack" {
        let slab = directory.appending(path: "in.slab").path
        #expect(
          try quarry.run(["convert", checkpoint.path, "-o", slab, "--recipe", "bf16"]).status == 0)
        arguments[...1] = ["repack", slab]
        arguments += ["--profile", "ship"]
      } else if command == "synthesize" {
        arguments[...1] = ["synthesize", checkpoint.path + "/config.json"]
        arguments += ["--slab"]
      }
      let before = files(in: directory)
      let outcome = try quarry.run(arguments) { process, _ in
        while process.isRunning, !files(in: directory).contains(where: { $0.contains(".partial") })
        {
          usleep(1000)
        }
        kill(process.processIdentifier, signal)
      }
      #expect(outcome.status == 128 + signal)
      if outcome.errors.contains(" layers are kept in ") {
        // The first layer was done already: JobTests has that case.
        #expect(command == "convert")
      } else {
        #expect(outcome.errors.contains("was not written"))
        #expect(files(in: directory) == before)
      }
    }
  }

  /// SIGTERM ends the whole program, and not only the answer as Ctrl-C does.
  @Test func aSignalEndsTheChat() throws {
    let outcome = try quarry.run(
      ["chat", "--max-tokens", "8000", "--min-tokens", "8000"], input: "Stones\n/nonsense\n"
    ) { process, output in
      while process.isRunning, try Data(contentsOf: output).isEmpty { usleep(1000) }
      process.terminate()
    }
    #expect(outcome.status == 143)
    #expect(!outcome.errors.contains("/nonsense"))
  }

  /// A model is listed although it cannot be converted, and converting it names what is wrong.
  @Test func inspectsWhatItCannotConvert() throws {
    try Place.withTemporaryDirectory { directory in
      let checkpoint = try SyntheticCheckpoint.make(in: directory, layers: 1, hiddenSize: 64)
      let config = checkpoint.appending(path: "config.json")
      let json = try String(contentsOf: config, encoding: .utf8)
      try Data(
        json.replacing("GraniteForCausalLM", with: "MarbleForCausalLM")
          .replacing("\"granite\"", with: "\"marble\"").utf8
      ).write(to: config)
      let outcome = try quarry.run(["inspect", checkpoint.path, "--json"])
      try #require(outcome.status == 0, "\(outcome.errors)")
      let listing = try JSONValue(parsing: outcome.output)
      let summary = try #require(listing["summary"])
      #expect(listing["kind"] == "checkpoint" && summary["total"]?["tensors"]?.integer == 11)
      #expect(summary["architecture"] == "MarbleForCausalLM" && summary["runs"] == false)
      #expect(summary["model"]?["layers"]?.integer == 1)
      let note = try #require(summary["notes"]?.array?.first?.string)
      #expect(note.contains("cannot be converted") && note.contains("Marble"))
      let page = try quarry.run(["inspect", checkpoint.path, "--tensors"]).output
      #expect(page.contains("model.layers.0.mlp.down_proj.weight"))
      let words = try quarry.run(["inspect", checkpoint.path]).output
      #expect(words.contains("it cannot be converted: architectures: MarbleForCausalLM"))
      let refused = try quarry.run(
        ["convert", checkpoint.path, "-o", directory.appending(path: "a.slab").path])
      #expect(refused.status == 1 && refused.errors.contains("Marble"))
    }
  }

  @Test func warnsBeforeItRunsOutOfMemory() throws {
    try Place.withTemporaryDirectory { directory in
      let config = directory.appending(path: "config.json")
      let slab = directory.appending(path: "a.slab").path
      // A KV cache of a terabyte at full context, from a file of megabytes.
      try Data(
        """
        {"model_type": "granite", "hidden_size": 256, "intermediate_size": 64,
         "num_hidden_layers": 16, "num_attention_heads": 4, "num_key_value_heads": 4,
         "vocab_size": 5000, "max_position_embeddings": 67108864, "tie_word_embeddings": true,
         "embedding_multiplier": 12.0, "attention_multiplier": 0.015625,
         "residual_multiplier": 0.22, "logits_scaling": 8.0, "eos_token_id": 0}
        """.utf8
      ).write(to: config)
      let made = try quarry.run(["synthesize", config.path, "-o", slab, "--slab"])
      try #require(made.status == 0, "\(made.errors)")
      let arguments = ["generate", slab, "--raw", "-p", "Stones", "--max-tokens", "2"]
      let warned = try quarry.run(arguments)
      #expect(warned.status == 0)
      #expect(warned.errors.hasPrefix("warning: weights and a full KV cache take "))
      #expect(warned.errors.contains("give a smaller --context"))
      let fitting = try quarry.run(arguments + ["--context", "64"])
      #expect(fitting.status == 0 && !fitting.errors.contains("warning"))
    }
  }

  @Test func listingsCannotSteerTheTerminal() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "x.safetensors").path
      try SafetensorsWriter.write(path: path, tensors: [("a\u{1B}[2J\u{9B}b", [1], [1])])
      let outcome = try quarry.run(["inspect", path, "--tensors"])
      #expect(outcome.status == 0)
      #expect(outcome.output.contains(#"a\u{1B}[2J\u{009B}b"#))
      #expect(!outcome.output.unicodeScalars.contains { $0 == "\u{1B}" || $0 == "\u{9B}" })
    }
  }

  @Test func controlCStopsAnAnswer() throws {
    let outcome = try quarry.run(
      ["generate", "-p", "Stones", "--max-tokens", "8000", "--min-tokens", "8000"],
      whileRunning: interruptAnswer)
    #expect(outcome.status == 130)
    #expect(outcome.errors.contains("ended by cancelled"))
    #expect(outcome.output.hasSuffix("\n"))
  }

  @Test func controlCStopsAnAnswerAndNotTheChat() throws {
    let outcome = try quarry.run(
      ["chat", "--max-tokens", "8000", "--min-tokens", "8000"], input: "Stones\n/nonsense\n",
      whileRunning: interruptAnswer)
    #expect(outcome.status == 0)
    #expect(outcome.errors.contains("unknown command /nonsense"))
  }

  /// The memory that is the program's own, source pages aside, while it converts 340 MB: enough for
  /// the largest tensor and not for the checkpoint.
  @Test func conversionNeedsLittleMemory() throws {
    try Place.withTemporaryDirectory { directory in
      let checkpoint = try SyntheticCheckpoint.make(in: directory, layers: 12, hiddenSize: 768)
      let most = try peakKilobytes(ofConverting: checkpoint, isCalibrated: false)
      #expect((1000..<96 << 10).contains(most), "\(most) KiB")
    }
  }

  /// Of layers with experts and Mamba2, calibrated: twice as many take no more memory.
  @Test func memoryOfConversionDoesNotGrowWithLayers() throws {
    try Place.withTemporaryDirectory { directory in
      let peaks = try [3, 6].map { layers in
        let config = directory.appending(path: "\(layers).json")
        let types = (0..<layers).map { $0 == 1 ? "\"attention\"" : "\"mamba\"" }
        try Data(
          """
          {"architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid",
           "hidden_size": 512, "num_hidden_layers": \(layers), "num_attention_heads": 8,
           "num_key_value_heads": 2, "shared_intermediate_size": 256, "intermediate_size": 768,
           "num_local_experts": 16, "num_experts_per_tok": 4, "vocab_size": 4099,
           "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "hidden_act": "silu",
           "tie_word_embeddings": true, "embedding_multiplier": 12, "residual_multiplier": 0.22,
           "attention_multiplier": 0.015625, "logits_scaling": 6, "eos_token_id": 0,
           "position_embedding_type": "nope", "mamba_n_heads": 16, "mamba_d_head": 64,
           "mamba_d_state": 32, "mamba_expand": 2, "mamba_n_groups": 1, "mamba_d_conv": 4,
           "mamba_conv_bias": true, "layer_types": [\(types.joined(separator: ", "))]}
          """.utf8
        ).write(to: config)
        let checkpoint = directory.appending(path: "\(layers)")
        let made = try quarry.run(["synthesize", config.path, "-o", checkpoint.path])
        try #require(made.status == 0, "\(made.errors)")
        // What threads do at the same moment differs from run to run.
        let runs = try (0..<2).map { _ in
          try peakKilobytes(ofConverting: checkpoint, isCalibrated: true, ["--recipe", "q8"])
        }
        return Double(runs.min()!)
      }
      // The experts of a layer alone have 36 MiB.
      #expect(peaks[0] > 20 * 1024)
      #expect(abs(peaks[1] / peaks[0] - 1) < 0.05, "\(peaks) KiB")
    }
  }

  /// The most memory of its own that the program has while it converts with two threads.
  private func peakKilobytes(
    ofConverting checkpoint: URL, isCalibrated: Bool, _ options: [String] = []
  ) throws -> Int {
    var most = 0
    let output = checkpoint.path + ".slab"
    let outcome = try quarry.run(
      ["convert", checkpoint.path, "-o", output, "--force", "--threads", "2"] + options
    ) { process, _ in
      while process.isRunning {
        let status = try? String(
          contentsOfFile: "/proc/\(process.processIdentifier)/status", encoding: .utf8)
        let line = status?.split(separator: "\n").first { $0.hasPrefix("RssAnon:") }
        let kilobytes = line?.split(separator: " ").compactMap { Int($0) }.first ?? 0
        most = max(most, kilobytes)
        usleep(1000)
      }
    }
    #expect(outcome.status == 0, "\(outcome.errors)")
    #expect(outcome.errors.contains("no calibration") != isCalibrated)
    return most
  }

  /// Presses Ctrl-C once the first text is there.
  private func interruptAnswer(_ process: Process, _ output: URL) throws {
    while process.isRunning, try Data(contentsOf: output).isEmpty { usleep(1000) }
    process.interrupt()
  }

  private func files(in directory: URL) -> [String] {
    (try? FileManager.default.contentsOfDirectory(atPath: directory.path))?.sorted() ?? []
  }
}
