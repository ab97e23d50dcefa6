import Foundation
import ModelFiles
import Pebble
import Quantization
import TensorCore
import TestSupport
import Testing

@testable import Conversion

/// Conversions that weigh errors by what the model does with a text.
@Suite(.serialized) struct CalibrationTests {
  private static let pebble = Result { try Checkpoint(directory: Pebble.directory.path) }
  /// A few hundred tokens, so that tests stay quick.
  private static let short = Calibration(.bundled, tokenCount: 600)

  private func convert(
    _ checkpoint: Checkpoint, _ recipe: Recipe = .q4, _ calibration: Calibration, to path: String,
    threads: Int = 2
  ) throws -> ConversionReport {
    try Converter(
      checkpoint: checkpoint, recipe: recipe, calibration: calibration, profile: .run,
      pool: WorkerPool(threadCount: threads)
    ).run(to: path)
  }

  /// The same bytes for any number of threads, with column scales that name what is there.
  @Test(arguments: [Recipe.q4, .q8s]) func bytesDoNotDependOnThreads(recipe: Recipe) throws {
    let checkpoint = try Self.pebble.get()
    try Place.withTemporaryDirectory { directory in
      var files: [Data] = []
      for threads in [1, 2, 7] {
        let path = directory.appending(path: "\(threads).slab")
        let report = try convert(
          checkpoint, recipe, Self.short, to: path.path, threads: threads)
        guard case .done(let origin, _, _) = report.calibration else {
          Issue.record("\(report.calibration)")
          return
        }
        #expect(origin.hasPrefix("600 tokens, sha256 "))
        files.append(try Data(contentsOf: path))
      }
      #expect(files[1] == files[0] && files[2] == files[0])
      let slab = try Slab(path: directory.appending(path: "2.slab").path)
      try slab.verify(pool: WorkerPool(threadCount: 2)) { _, _ in }
      #expect(slab.metadata["calibration"]?.hasPrefix("600 tokens") == true)
      let plan = try ConversionPlan(checkpoint, recipe: recipe)
      let sizes = Converter(
        checkpoint: checkpoint, recipe: recipe, calibration: Self.short, profile: .run,
        pool: WorkerPool(threadCount: 2)
      ).fileByteCounts(plan)
      #expect(sizes.contains(slab.fileByteCount))
      let scaled = slab.tensors.filter { $0.columnScales != nil }
      #expect(scaled.count > 8)
      // Those that read one input have the same column scales.
      for layer in 0..<checkpoint.configuration.layerCount {
        let names = ["q", "k", "v"].map { "model.layers.\(layer).self_attn.\($0)_proj.weight" }
        #expect(Set(names.map { slab.tensor(named: $0)?.columnScales }).count == 1)
      }
    }
  }

  /// What errors weigh is smaller where it was minimized.
  /// Mamba2 layers calibrate too: what their projections read weighs errors and finds column scales,
  /// everything else of them stays float32.
  @Test func hybridsCalibrate() throws {
    let json = """
      {"architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid",
      "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
      "layer_types": ["mamba", "attention", "mamba"], "num_local_experts": 0,
      "shared_intermediate_size": 160, "vocab_size": 4096, "max_position_embeddings": 1024,
      "tie_word_embeddings": true, "embedding_multiplier": 12, "residual_multiplier": 0.22,
      "attention_multiplier": 0.2, "logits_scaling": 4, "position_embedding_type": "nope",
      "mamba_n_heads": 6, "mamba_n_groups": 2, "mamba_d_state": 24, "mamba_d_conv": 4}
      """
    let model = try SyntheticModel(configuration: Array(json.utf8), seed: 3)
    let tokenizer = try Checkpoint.assets(directory: Pebble.directory.path).filter {
      $0.name.hasPrefix("tokenizer")
    }
    try Place.withTemporaryDirectory { directory in
      let source = directory.appending(path: "hybrid").path
      try model.writeCheckpoint(to: source, assets: tokenizer, pool: WorkerPool(threadCount: 2))
      let checkpoint = try Checkpoint(directory: source)
      var files: [Data] = []
      for threads in [1, 2, 7] {
        let path = directory.appending(path: "\(threads).slab")
        let report = try convert(
          checkpoint, .q4, Self.short, to: path.path, threads: threads)
        guard case .done = report.calibration else {
          Issue.record("\(report.calibration)")
          return
        }
        files.append(try Data(contentsOf: path))
      }
      #expect(files[1] == files[0] && files[2] == files[0])
      let slab = try Slab(path: directory.appending(path: "2.slab").path)
      for layer in [0, 2] {
        let prefix = "model.layers.\(layer).mamba."
        for name in ["in_proj", "out_proj"] {
          let tensor = try #require(slab.tensor(named: prefix + name + ".weight"))
          #expect(tensor.encoding == .q4b16)
          #expect(tensor.statistics?.weightedError != nil)
        }
        for name in ["conv1d.weight", "conv1d.bias", "A_log", "D", "dt_bias", "norm.weight"] {
          let tensor = try #require(slab.tensor(named: prefix + name))
          #expect(tensor.layout == .plain)
          #expect(try slab.values(named: tensor.name) == checkpoint.values(named: tensor.name))
        }
      }
      #expect(slab.tensor(named: "model.layers.1.mamba.in_proj.weight") == nil)
      let uncalibrated = directory.appending(path: "none.slab").path
      _ = try convert(checkpoint, .q4, .none, to: uncalibrated)
      let written = try model.writeSlab(
        to: directory.appending(path: "direct.slab").path, recipe: .q4, assets: tokenizer,
        pool: WorkerPool(threadCount: 3))
      #expect(try Slab(path: uncalibrated).rootDigest == written)
    }
  }

  @Test func weighsErrors() throws {
    let checkpoint = try Self.pebble.get()
    let pool = WorkerPool(threadCount: 2)
    let statistics = try ImportanceStatistics.gather(
      checkpoint, calibration: .bundled, pool: pool)
    try Place.withTemporaryDirectory { directory in
      func slab(_ calibration: Calibration) throws -> Slab {
        let path = directory.appending(path: UUID().uuidString).path
        _ = try convert(checkpoint, .q4, calibration, to: path)
        return try Slab(path: path)
      }
      let (with, without) = (try slab(.bundled), try slab(.none))
      #expect(with.rootDigest != without.rootDigest)
      #expect(without.metadata["calibration"] == "none")
      for layer in 0..<checkpoint.configuration.layerCount {
        for (name, input) in [
          ("self_attn.q_proj", "self_attn.input"), ("mlp.down_proj", "mlp.down_proj.input"),
        ] {
          let prefix = "model.layers.\(layer)."
          let importance = try #require(statistics.moments[prefix + input])
          let errors = try [with, without].map {
            try weightedError(prefix + name + ".weight", $0, checkpoint, importance, pool)
          }
          #expect(errors[0] < errors[1], "\(prefix + name)")
        }
      }
    }
  }

  /// Statistics that a run wrote give the file that the run gives.
  @Test func statisticsAreReused() throws {
    let checkpoint = try Self.pebble.get()
    try Place.withTemporaryDirectory { directory in
      let file = directory.appending(path: "statistics.safetensors").path
      let pool = WorkerPool(threadCount: 3)
      try ImportanceStatistics.gather(checkpoint, calibration: Self.short, pool: pool)
        .write(to: file)
      let statistics = try ImportanceStatistics(path: file)
      #expect(statistics.moments.count == 4 * checkpoint.configuration.layerCount + 1)
      let paths = ["a.slab", "b.slab"].map { directory.appending(path: $0) }
      _ = try convert(checkpoint, .q4, Self.short, to: paths[0].path)
      _ = try convert(checkpoint, .q4, Calibration(.statistics(statistics)), to: paths[1].path)
      #expect(try Data(contentsOf: paths[0]) == Data(contentsOf: paths[1]))
    }
  }

  @Test func textsDecide() throws {
    let checkpoint = try Self.pebble.get()
    func gathered(_ text: String, _ count: Int = 600) throws -> ImportanceStatistics {
      try ImportanceStatistics.gather(
        checkpoint, calibration: Calibration(.text(text), tokenCount: count),
        pool: WorkerPool(threadCount: 2))
    }
    let one = try gathered("A granite quarry opens at dawn.")
    #expect(try gathered("A granite quarry opens at dawn.") == one)
    #expect(try gathered("let x = [1, 2, 3]") != one)
    #expect(throws: ConversionError.calibration(.emptyText)) { try gathered("") }
    // A single token leaves columns of the attention's output as they come, and nothing is NaN.
    let least = try gathered("A", 1)
    #expect(least.origin.hasPrefix("1 tokens"))
    #expect(least.moments.values.allSatisfy { $0.allSatisfy { $0.isFinite && $0 >= 0 } })
    #expect(!least.idleColumns.isEmpty)
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "out.slab").path
      let report = try convert(
        checkpoint, .q4, Calibration(.text("A"), tokenCount: 1), to: path)
      guard case .done(_, let idle, _) = report.calibration else {
        Issue.record("\(report.calibration)")
        return
      }
      #expect(idle == least.idleColumns)
      for kind in report.kinds { #expect(kind.normalizedMeanSquaredError < 0.3) }
    }
  }

  /// Without a tokenizer there is nothing to run; the conversion says so and is the uncalibrated one.
  @Test func withoutTokenizer() throws {
    let checkpoint = try ConversionTests.golden("granite-tied")
    try Place.withTemporaryDirectory { directory in
      let paths = ["a.slab", "b.slab"].map { directory.appending(path: $0) }
      let report = try convert(checkpoint, .q4, .bundled, to: paths[0].path)
      #expect(
        report.calibration == .impossible(reason: "the checkpoint has no tokenizer.json"))
      #expect(try convert(checkpoint, .q4, .none, to: paths[1].path).calibration == .unwanted)
      #expect(try Data(contentsOf: paths[0]) == Data(contentsOf: paths[1]))
      #expect(throws: ConversionError.self) {
        try ImportanceStatistics.gather(
          checkpoint, calibration: .bundled, pool: WorkerPool(threadCount: 1))
      }
    }
  }

  @Test(arguments: [Recipe.bf16, .f32]) func unquantizedRecipesDoNotCalibrate(
    recipe: Recipe
  ) throws {
    try Place.withTemporaryDirectory { directory in
      let report = try convert(
        try Self.pebble.get(), recipe, .bundled, to: directory.appending(path: "a.slab").path)
      #expect(report.calibration == .unwanted)
    }
  }

  /// A tokenizer of another model gives ids that this one has no rows for.
  @Test func foreignTokenizer() throws {
    try withCopy("granite-tied") { copy in
      try FileManager.default.copyItem(
        at: Pebble.directory.appending(path: "tokenizer.json"),
        to: copy.appending(path: "tokenizer.json"))
      let checkpoint = try Checkpoint(directory: copy.path)
      let report = try convert(checkpoint, .q4, .bundled, to: copy.appending(path: "a.slab").path)
      guard case .impossible = report.calibration else {
        Issue.record("\(report.calibration)")
        return
      }
      try Data("{}".utf8).write(to: copy.appending(path: "tokenizer.json"))
      let broken = try Checkpoint(directory: copy.path)
      let second = try convert(broken, .q4, .bundled, to: copy.appending(path: "b.slab").path)
      #expect(
        second.calibration
          == .impossible(reason: "its tokenizer.json cannot be executed"))
    }
  }

  /// Hidden states that were saved between two layers give what follows.
  @Test func hiddenStatesCanBeRestored() throws {
    let checkpoint = try Self.pebble.get()
    let pool = WorkerPool(threadCount: 2)
    guard case .source(let source) = try PreparedCalibration(Self.short, of: checkpoint) else {
      Issue.record("Pebble has a tokenizer")
      return
    }
    func calibrator() throws -> Calibrator {
      try Calibrator(checkpoint, source: source, pool: pool, isCancelled: { false })
    }
    let first = try calibrator()
    try first.advance(to: .layer(0))
    let state = try Array(#require(first.run).state)
    try first.advance(to: .layer(1))
    let second = try calibrator()
    let run = try #require(second.run)
    try state.withUnsafeBytes { try run.restore($0) }
    try second.advance(to: .layer(1))
    for (name, values) in second.statistics.moments {
      #expect(first.statistics.moments[name] == values)
    }
    #expect(throws: CalibrationError.state) {
      try state.dropLast().withUnsafeBytes { try run.restore($0) }
    }
  }

  /// Every group of matrices that read one input has an exponent of its own.
  @Test func exponentsAreThoseOfTheGroups() throws {
    let checkpoint = try Self.pebble.get()
    let pool = WorkerPool(threadCount: 2)
    let statistics = try ImportanceStatistics.gather(
      checkpoint, calibration: Self.short, pool: pool)
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      _ = try convert(checkpoint, .q8, Calibration(.statistics(statistics)), to: path)
      let slab = try Slab(path: path)
      var exponents: Set<Double> = []
      for (name, importance) in statistics.moments {
        let scales =
          slab.tensor(named: name + ".column_scales") == nil
          ? [Float](repeating: 1, count: importance.count)
          : try slab.values(named: name + ".column_scales")
        var found: Double?
        for exponent in ColumnScaling.exponents where found == nil {
          let candidate = ColumnScaling.scales(importance: importance, exponent: exponent)
          let values = UnsafeBufferPointer(start: candidate.pointer, count: candidate.columns)
          if values.elementsEqual(scales) { found = exponent }
        }
        exponents.insert(try #require(found, "\(name)"))
      }
      #expect(exponents.count > 1, "\(exponents)")
    }
  }

  /// A weight that a column scale would push out of float32's range: its group goes without scales, and
  /// the others keep theirs.
  @Test(arguments: [0, 1, 255]) func weightsNearTheEndOfTheRange(row: Int) throws {
    let statistics = try ImportanceStatistics.gather(
      try Self.pebble.get(), calibration: Self.short, pool: WorkerPool(threadCount: 2))
    try Place.withTemporaryDirectory { directory in
      let copy = directory.appending(path: "pebble")
      try FileManager.default.copyItem(at: Pebble.directory, to: copy)
      let name = "model.layers.2.self_attn.q_proj.weight"
      let source = try Checkpoint(directory: copy.path)
      let tensor = try #require(source.descriptor(named: name))
      #expect(tensor.elementType == .bf16)
      // In the column that counts most, whose scale is the smallest.
      let importance = try #require(statistics.moments["model.layers.2.self_attn.input"])
      let column = try #require(importance.indices.max { importance[$0] < importance[$1] })
      let handle = try FileHandle(forUpdating: URL(filePath: source.path(of: tensor)))
      let index = row * tensor.shape[1] + column
      try handle.seek(toOffset: UInt64(tensor.byteRange.lowerBound + 2 * index))
      try handle.write(contentsOf: Data([0x7F, 0x7F]))  // the largest bfloat16
      try handle.close()
      let path = directory.appending(path: "a.slab").path
      for recipe in [Recipe.q4, .q8s] {
        let report = try Converter(
          checkpoint: Checkpoint(directory: copy.path), recipe: recipe,
          calibration: Calibration(.statistics(statistics)), profile: .run,
          pool: WorkerPool(threadCount: 2), replacing: true
        ).run(to: path)
        for kind in report.kinds { #expect(kind.normalizedMeanSquaredError.isFinite) }
        let slab = try Slab(path: path)
        #expect(slab.tensor(named: name)?.columnScales == nil)
        #expect(slab.tensors.contains { $0.columnScales != nil })
        let matrix = try slab.matrix(named: name, pool: WorkerPool(threadCount: 1))
        var values = [Float](repeating: 0, count: tensor.shape[1])
        matrix.copyRow(row, into: &values)
        #expect(values.allSatisfy { $0.isFinite } && values[column] > 3e38)
      }
    }
  }

  @Test func windowsSpreadOverTheText() {
    func windows(_ tokenCount: Int, atMost count: Int, context: Int = 4096) -> [Range<Int32>] {
      CalibrationTokens(
        (0..<Int32(tokenCount)).map { $0 }, atMost: count, contextLength: context
      ).windows.map { $0.first!..<$0.last! + 1 }
    }
    #expect(windows(700, atMost: 1000) == [0..<350, 350..<700])
    #expect(windows(700, atMost: 600) == [0..<300, 400..<700])
    #expect(
      windows(4001, atMost: 1600) == [0..<400, 1200..<1600, 2400..<2800, 3600..<4000])
    #expect(windows(300, atMost: 50) == [0..<50])
    #expect(windows(300, atMost: 300, context: 128) == [0..<100, 100..<200, 200..<300])
  }

  // MARK: -

  /// Σ importance · (w − ŵ)² over a matrix.
  private func weightedError(
    _ name: String, _ slab: Slab, _ checkpoint: Checkpoint, _ importance: [Float],
    _ pool: WorkerPool
  ) throws -> Double {
    let matrix = try slab.matrix(named: name, pool: pool)
    let source = try checkpoint.values(named: name)
    let columns = importance.count
    var row = [Float](repeating: 0, count: columns)
    var sum = 0.0
    for index in 0..<matrix.geometry.rows {
      matrix.copyRow(index, into: &row)
      for column in 0..<columns {
        let difference = Double(source[index * columns + column] - row[column])
        sum += Double(importance[column]) * difference * difference
      }
    }
    return sum
  }

  private func withCopy(_ golden: String, _ body: (URL) throws -> Void) throws {
    try Place.withTemporaryDirectory { directory in
      let copy = directory.appending(path: golden)
      try FileManager.default.copyItem(
        at: Place.goldens.appending(path: "checkpoints/\(golden)"), to: copy)
      try body(copy)
    }
  }
}
