import Foundation
import JSON
import Pebble
import TestSupport
import Testing

/// Getting weights into memory, and what happens when their file changes, through the real program.
@Suite struct LoadingTests {
  private func withSlab(
    _ options: [String] = [], _ body: (_ slab: String) throws -> Void
  ) throws {
    try Place.withTemporaryDirectory { directory in
      let slab = directory.appending(path: "pebble.slab").path
      let outcome = try quarry.run(["convert", Pebble.directory.path, "-o", slab] + options)
      try #require(outcome.status == 0, "\(outcome.errors)")
      try body(slab)
    }
  }

  /// A completion that goes on for seconds unless something ends it.
  private let long = [
    "--raw", "-p", "Stones", "--seed", "1", "--max-tokens", "6000", "--min-tokens", "6000",
  ]

  /// Waits for the first text.
  private func awaitText(_ process: Process, _ output: URL) throws {
    while process.isRunning, try Data(contentsOf: output).isEmpty { usleep(1000) }
  }

  @Test(arguments: ["run", "ship"])
  func mappedAndCopiedWeightsSayTheSame(_ profile: String) throws {
    try withSlab(["--profile", profile]) { slab in
      let texts = try [[], ["--load", "map"], ["--load", "copy"]].map { options in
        let outcome = try quarry.run(
          ["generate", slab, "--raw", "-p", "Stones", "--max-tokens", "20", "--seed", "3"]
            + options)
        try #require(outcome.status == 0, "\(outcome.errors)")
        return outcome.output
      }
      #expect(texts[0].count > 10 && Set(texts).count == 1)
    }
  }

  @Test func aSlabCutShortWhileItRunsEndsWithASentence() throws {
    try withSlab { slab in
      let outcome = try quarry.run(["generate", slab] + long) { process, output in
        try awaitText(process, output)
        try FileHandle(forWritingTo: URL(filePath: slab)).truncate(atOffset: 8192)
      }
      #expect(outcome.status == 1)
      #expect(
        outcome.errors.contains("Error: \(slab) became shorter while it was in use"),
        "\(outcome.errors)")
    }
  }

  @Test func aCheckpointCutShortWhileItIsConvertedEndsWithASentence() throws {
    try Place.withTemporaryDirectory { directory in
      let checkpoint = try SyntheticCheckpoint.make(in: directory, layers: 12, hiddenSize: 768)
      let weights = checkpoint.appending(path: "model.safetensors")
      let slab = directory.appending(path: "a.slab").path
      let outcome = try quarry.run(["convert", checkpoint.path, "-o", slab, "--threads", "1"]) {
        process, _ in
        while process.isRunning, !FileManager.default.fileExists(atPath: slab + ".partial") {
          usleep(1000)
        }
        try FileHandle(forWritingTo: weights).truncate(atOffset: 8192)
      }
      #expect(outcome.status == 1)
      // At the page that is gone, or at the next look at the file.
      let sentences = [
        " became shorter while it was in use", ": the file changed while it was in use: 8192 bytes",
      ]
      #expect(
        sentences.contains { outcome.errors.contains("Error: \(weights.path)\($0)") },
        "\(outcome.errors)")
      // Layers that were done already may be kept.
      let left = try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
      #expect(left == ["checkpoint"] || left == ["a.slab.journal", "a.slab.partial", "checkpoint"])
    }
  }

  @Test func copiedWeightsDoNotNeedTheirFile() throws {
    try withSlab { slab in
      let outcome = try quarry.run(["generate", slab, "--load", "copy"] + long) { process, output in
        try awaitText(process, output)
        try FileHandle(forWritingTo: URL(filePath: slab)).truncate(atOffset: 0)
      }
      #expect(outcome.status == 0)
      #expect(outcome.errors.contains("answer 6000 tokens"))
    }
  }

  /// Only a fault in a slab's pages has a sentence.
  @Test func otherBusErrorsStayCrashes() throws {
    try withSlab { slab in
      let outcome = try quarry.run(["generate", slab] + long) { process, output in
        try awaitText(process, output)
        kill(process.processIdentifier, SIGBUS)
      }
      #expect(outcome.status == SIGBUS)
      #expect(!outcome.errors.contains("became shorter"))
    }
  }

  @Test func drawsABarOnATerminal() throws {
    try withSlab(["--profile", "ship"]) { slab in
      var (terminal, side) = (Int32(0), Int32(0))
      try #require(openpty(&terminal, &side, nil, nil, nil) == 0)
      defer { close(terminal) }
      let process = Process()
      process.executableURL = quarry.executable
      process.arguments = ["generate", slab, "--raw", "-p", "Stones", "--max-tokens", "1"]
      process.standardInput = FileHandle.nullDevice
      process.standardOutput = FileHandle.nullDevice
      let handle = FileHandle(fileDescriptor: side, closeOnDealloc: false)
      process.standardError = handle
      try process.run()
      close(side)
      var shown = [UInt8]()
      var piece = [UInt8](repeating: 0, count: 4096)
      while case let count = read(terminal, &piece, piece.count), count > 0 {
        shown += piece[..<count]
      }
      process.waitUntilExit()
      #expect(process.terminationStatus == 0)
      let text = String(decoding: shown, as: UTF8.self)
      #expect(text.contains("loading ████"), "\(text)")
      #expect(text.contains("100 %"))
    }
  }

  @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: taskset), "needs taskset"))
  func usesNoMoreThreadsThanItMayHaveProcessors() throws {
    // The first processor that this process may use.
    let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    let line = try #require(
      status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list") })
    let first = try #require(line.split { !$0.isNumber }.first)
    func report(_ options: [String] = []) throws -> JSONValue {
      let arguments = ["-c", String(first), quarry.executable.path, "doctor", "--json"] + options
      return try JSONValue(
        parsing: Program(executable: URL(filePath: taskset)).run(arguments).output)
    }
    let pinned = try report()
    #expect(pinned["allowed_processors"] == 1 && pinned["threads"] == 1)
    #expect(pinned["threads_reason"]?.string?.isEmpty == false)
    let forced = try report(["--threads", "2"])
    #expect(forced["threads"] == 2 && forced["threads_reason"] == "--threads asks for it")
  }
}

private let taskset = "/usr/bin/taskset"
