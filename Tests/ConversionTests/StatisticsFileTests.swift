import Foundation
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Testing

@testable import Conversion

/// Statistics files are input from outside.
@Suite struct StatisticsFileTests {
  private func checkpoint() throws -> Checkpoint {
    try Checkpoint(directory: Pebble.directory.path)
  }

  private func valid() throws -> ImportanceStatistics {
    var statistics = ImportanceStatistics(origin: "none in particular")
    for (name, columns) in ImportanceStatistics.expected(try checkpoint().configuration) {
      statistics.moments[name] = (0..<columns).map { Float($0 + 1) }
    }
    return statistics
  }

  @Test func staysWhatItIs() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.safetensors").path
      let statistics = try valid()
      try statistics.write(to: path)
      #expect(try ImportanceStatistics(path: path) == statistics)
      try statistics.check(checkpoint().configuration)
    }
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity, -1, -.leastNonzeroMagnitude])
  func valuesThatAreNoMeanSquares(value: Float) throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.safetensors").path
      var statistics = try valid()
      statistics.moments["lm_head.input"]![3] = value
      try statistics.write(to: path)
      let error = try #require(throws: CalibrationError.self) {
        try ImportanceStatistics(path: path)
      }
      #expect("\(error)".contains("column 3 of lm_head.input is \(value)"))
    }
  }

  @Test func otherFiles() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.safetensors").path
      func expectRefusal(_ text: String) {
        let error = #expect(throws: CalibrationError.self) { try ImportanceStatistics(path: path) }
        #expect(error.map { "\($0)".contains(text) } == true, "\(error as Any)")
      }
      expectRefusal("a.safetensors")
      try Data("no safetensors".utf8).write(to: URL(filePath: path))
      expectRefusal("header")
      let tensors = [(name: "lm_head.input", shape: [2], values: [Float(1), 2])]
      try SafetensorsWriter.write(path: path, tensors: tensors)
      expectRefusal("no statistics file")
      try SafetensorsWriter.write(
        path: path, tensors: tensors, metadata: [("format", ImportanceStatistics.format)])
      expectRefusal("what text")
      for origin in ["a\nb", String(repeating: "x", count: 2000)] {
        try SafetensorsWriter.write(
          path: path, tensors: tensors,
          metadata: [("format", ImportanceStatistics.format), ("origin", origin)])
        expectRefusal("what text")
      }
      try SafetensorsWriter.write(
        path: path, tensors: [("lm_head.input", [1, 2], [1, 2])],
        metadata: [("format", ImportanceStatistics.format), ("origin", "x")])
      expectRefusal("one dimension")
    }
  }

  /// Names and numbers of columns must be the model's, before anything is written.
  @Test func ofAnotherModel() throws {
    let checkpoint = try checkpoint()
    func expectRefusal(_ statistics: ImportanceStatistics, _ text: String) throws {
      try Place.withTemporaryDirectory { directory in
        let path = directory.appending(path: "out.slab").path
        let error = try #require(throws: ConversionError.self) {
          try Converter(
            checkpoint: checkpoint, recipe: .q4, calibration: Calibration(.statistics(statistics)),
            profile: .run, pool: WorkerPool(threadCount: 1)
          ).run(to: path)
        }
        guard case .calibration(.statistics(let reason)) = error else {
          Issue.record("\(error)")
          return
        }
        #expect(reason.contains(text))
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
      }
    }
    var statistics = try valid()
    statistics.moments["model.layers.0.mlp.input"] = nil
    try expectRefusal(statistics, "model.layers.0.mlp.input is missing")
    statistics.moments["model.layers.0.mlp.input"] = [1, 2, 3]
    try expectRefusal(statistics, "3 columns")
    statistics = try valid()
    statistics.moments["model.layers.99.mlp.input"] = [1]
    try expectRefusal(statistics, "inputs")
  }

  /// Zeros, and values at both ends of float32, are statistics like others, however little is left of
  /// columns that do not count.
  @Test func extremes() throws {
    let checkpoint = try checkpoint()
    for value in [0, Float.leastNonzeroMagnitude, .greatestFiniteMagnitude] {
      for all in [true, false] {
        var statistics = try valid()
        for name in statistics.moments.keys {
          for column in statistics.moments[name]!.indices where all || column % 3 == 0 {
            statistics.moments[name]![column] = value
          }
        }
        try Place.withTemporaryDirectory { directory in
          let path = directory.appending(path: "out.slab").path
          let report = try Converter(
            checkpoint: checkpoint, recipe: .q4, calibration: Calibration(.statistics(statistics)),
            profile: .run, pool: WorkerPool(threadCount: 2)
          ).run(to: path)
          for kind in report.kinds {
            #expect(kind.normalizedMeanSquaredError < 0.6, "\(value) \(all) \(kind)")
          }
          try Slab(path: path).verify(pool: WorkerPool(threadCount: 2)) { _, _ in }
        }
      }
    }
  }
}
