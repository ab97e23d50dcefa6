import Foundation
import JSON
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Testing

/// Calibrated conversions through the program itself.
@Suite struct CalibrateTests {
  private struct Desk {
    let directory: URL

    func path(_ name: String) -> String { directory.appending(path: name).path }

    func convert(
      _ name: String, _ options: [String], of checkpoint: String = Pebble.directory.path,
      isa: InstructionSet? = nil
    ) throws -> (file: Data, errors: String) {
      let outcome = try quarry.run(
        ["convert", checkpoint, "-o", path(name)] + options,
        environment: isa.map { [InstructionSet.environmentVariable: $0.rawValue] } ?? [:])
      try #require(outcome.status == 0, "\(outcome.errors)")
      return (try Data(contentsOf: URL(filePath: path(name))), outcome.errors)
    }

    func calibration(_ name: String) throws -> String {
      try #require(try Slab(path: path(name)).metadata["calibration"])
    }
  }

  private func withDesk(_ body: (Desk) throws -> Void) throws {
    try Place.withTemporaryDirectory { try body(Desk(directory: $0)) }
  }

  /// One file for 1, 2 and 7 threads and for every instruction set of this machine.
  @Test(arguments: ["q4", "q8s"]) func theSameFileEverywhere(recipe: String) throws {
    try withDesk { desk in
      let options = ["--recipe", recipe, "--calibration-tokens", "48"]
      let first = try desk.convert("a.slab", options + ["--threads", "1"]).file
      #expect(try desk.calibration("a.slab").hasPrefix("48 tokens, sha256 "))
      #expect(try Slab(path: desk.path("a.slab")).tensors.contains { $0.columnScales != nil })
      for threads in ["2", "7"] {
        let other = try desk.convert("\(threads).slab", options + ["--threads", threads]).file
        #expect(other == first, "\(threads) threads")
      }
      for isa in InstructionSet.supported {
        let other = try desk.convert("\(isa).slab", options, isa: isa).file
        #expect(other == first, "\(isa)")
      }
    }
  }

  /// A text of one's own, the number of its tokens, and statistics that were made of it.
  @Test func textsAndStatistics() throws {
    try withDesk { desk in
      let text = desk.path("text.txt")
      let words = (0..<90).map { "Block \($0) of the quarry is cut at \($0 * 7 % 24) o'clock. " }
      try Data(words.joined().utf8).write(to: URL(filePath: text))
      let own = try desk.convert("own.slab", ["--calibration", text]).file
      let again = try desk.convert("again.slab", ["--calibration", text]).file
      #expect(own == again)
      let bundled = try desk.convert("bundled.slab", []).file
      #expect(bundled != own)
      #expect(try desk.calibration("bundled.slab") != desk.calibration("own.slab"))
      let short = ["--calibration", text, "--calibration-tokens", "100"]
      #expect(try desk.convert("short.slab", short).file != own)
      #expect(try desk.calibration("short.slab").hasPrefix("100 tokens, sha256 "))
      #expect(
        try desk.convert("none.slab", ["--calibration", "none"]).file
          != desk.convert("default.slab", ["--force"]).file)
      #expect(try desk.calibration("none.slab") == "none")

      let statistics = desk.path("statistics.safetensors")
      let gathered = try quarry.run(
        ["calibrate", Pebble.directory.path, "-o", statistics] + short)
      #expect(gathered.status == 0 && gathered.output.contains("100 tokens"), "\(gathered.errors)")
      let reused = try desk.convert("reused.slab", ["--calibration", statistics]).file
      #expect(reused == (try Data(contentsOf: URL(filePath: desk.path("short.slab")))))
      #expect(try quarry.run(["verify", desk.path("reused.slab")]).status == 0)
      let against = try quarry.run(
        ["verify", desk.path("reused.slab"), "--source", Pebble.directory.path])
      #expect(against.status == 0, "\(against.errors)")
    }
  }

  /// Without a tokenizer the conversion is the uncalibrated one, and says so.
  @Test func withoutTokenizer() throws {
    try withDesk { desk in
      let checkpoint = desk.path("pebble")
      try FileManager.default.copyItem(
        at: Pebble.directory, to: URL(filePath: checkpoint))
      try FileManager.default.removeItem(atPath: checkpoint + "/tokenizer.json")
      let (file, errors) = try desk.convert("a.slab", [], of: checkpoint)
      #expect(errors.contains("warning: no calibration"))
      #expect(errors.contains("the checkpoint has no tokenizer.json"), "\(errors)")
      let none = try desk.convert("b.slab", ["--calibration", "none"], of: checkpoint)
      #expect(none.file == file && !none.errors.contains("calibration"))
      let refused = try quarry.run(
        ["calibrate", checkpoint, "-o", desk.path("s.safetensors")])
      #expect(refused.status == 1 && refused.errors.contains("no tokenizer.json"))
      #expect(!FileManager.default.fileExists(atPath: desk.path("s.safetensors")))
    }
  }

  /// What a text does not show is reported, and harms nothing.
  @Test func uncoveredColumnsAreReported() throws {
    try withDesk { desk in
      let text = desk.path("text.txt")
      try Data("A".utf8).write(to: URL(filePath: text))
      let errors = try desk.convert("a.slab", ["--calibration", text]).errors
      #expect(errors.contains("warning: the calibration text left "), "\(errors)")
      #expect(errors.contains("input columns idle"))
      let slab = try Slab(path: desk.path("a.slab"))
      for tensor in slab.tensors {
        guard let statistics = tensor.statistics, tensor.encoding.isQuantized else { continue }
        #expect(statistics.normalizedMeanSquaredError < 0.5, "\(tensor.name)")
        #expect(statistics.weightedError?.isFinite == true)
      }
      for tensor in slab.tensors where tensor.name.hasSuffix(".column_scales") {
        let values = try slab.values(named: tensor.name)
        #expect(values.allSatisfy { $0.isFinite && $0 > 0 })
      }
      #expect(try !desk.convert("b.slab", []).errors.contains("idle"))
    }
  }

  @Test func whatCannotBeRead() throws {
    try withDesk { desk in
      let output = desk.path("a.slab")
      try Data("no statistics".utf8).write(to: URL(filePath: desk.path("s.safetensors")))
      try Data().write(to: URL(filePath: desk.path("empty.txt")))
      for (name, reason) in [
        ("s.safetensors", "the statistics cannot be used"), ("empty.txt", "has no tokens"),
        ("missing.txt", "missing.txt"),
      ] {
        let outcome = try quarry.run(
          ["convert", Pebble.directory.path, "-o", output, "--calibration", desk.path(name)])
        #expect(outcome.status == 1 && outcome.errors.contains(reason), "\(outcome.errors)")
      }
      let usage = try quarry.run(
        ["convert", Pebble.directory.path, "-o", output, "--calibration-tokens", "0"])
      #expect(usage.status == 64 && usage.errors.contains("--calibration-tokens"))
      #expect(!FileManager.default.fileExists(atPath: output))
    }
  }
}
