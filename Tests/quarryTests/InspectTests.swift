import Foundation
import JSON
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Testing

/// `quarry inspect` through the real program.
@Suite struct InspectTests {
  private static let gguf = Place.goldens.appending(path: "gguf/tiny.gguf").path
  private static let matrixName = "model.layers.0.mlp.down_proj.weight"

  /// Runs `body` with slabs of both profiles, made of the bundled checkpoint once.
  private static let slabs = Result { () throws -> [String] in
    let directory = FileManager.default.temporaryDirectory.appending(
      path: "quarry-inspect-\(ProcessInfo.processInfo.processIdentifier)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    return try ["run", "ship"].map { profile in
      let path = directory.appending(path: "\(profile).slab").path
      let made = try quarry.run([
        "convert", Pebble.directory.path, "-o", path, "--profile", profile, "--calibration", "none",
      ])
      try #require(made.status == 0, "\(made.errors)")
      return path
    }
  }

  private func json(_ arguments: [String]) throws -> JSONValue {
    let outcome = try quarry.run(["inspect"] + arguments + ["--json"])
    try #require(outcome.status == 0, "\(outcome.errors)")
    return try JSONValue(parsing: outcome.output)
  }

  private func text(_ arguments: [String]) throws -> String {
    let outcome = try quarry.run(["inspect"] + arguments)
    try #require(outcome.status == 0, "\(outcome.errors)")
    return outcome.output
  }

  @Test func summariesAddUp() throws {
    let slab = try Self.slabs.get()[0]
    let shard = Pebble.directory.appending(path: "model-00001-of-00002.safetensors").path
    for (path, kind, runs) in [
      (slab, "slab", true), (Pebble.directory.path, "checkpoint", true),
      (shard, "safetensors", false), (Self.gguf, "gguf", false),
    ] {
      let listing = try json([path, "--tensors"])
      let report = try json([path])
      #expect(report["kind"]?.string == kind && report["path"]?.string == path)
      let summary = try #require(report["summary"])
      #expect(summary["runs"]?.bool == runs)
      let tensors = try #require(listing["tensors"]?.array)
      let counted = tensors.filter { $0["role"] != "column-scales" }.reduce(0) {
        $0 + ($1["shape"]?.array ?? []).reduce(1) { $0 * ($1.integer ?? 0) }
      }
      #expect(summary["total"]?["parameters"]?.integer == counted && counted > 0)
      #expect(summary["total"]?["tensors"]?.integer == tensors.count)
      for key in ["parameters", "tensors", "stored_bytes", "logical_bytes"] {
        let sum = summary["roles"]?.array?.reduce(0) { $0 + ($1[key]?.integer ?? 0) }
        #expect(sum == summary["total"]?[key]?.integer, "\(kind) \(key)")
      }
      let size = try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int
      if kind != "checkpoint" { #expect(summary["file_bytes"]?.integer == size) }
    }
  }

  @Test func memoryIsThatOfARun() throws {
    let slab = try Slab(path: Self.slabs.get()[0])
    let summary = try #require(try json([slab.path])["summary"])
    let memory = try #require(summary["memory"]?.array)
    let context = try #require(summary["model"]?["context_length"]?.integer)
    #expect(memory.map { $0["context"]?.integer } == [4096, context])
    let weights = slab.tensors.reduce(0) { $0 + $1.logicalByteCount }
    let total = try #require(memory[1]["total_bytes"]?.integer)
    #expect(total > weights + (memory[1]["kv_bytes"]?["f16"]?.integer ?? .max / 2))
    let gguf = try json([Self.gguf])["summary"]?["memory"]?.array
    // 1 layer, 2 KV heads of 16, keys and values in two bytes each, at the context of 2048.
    #expect(gguf?[0]["kv_bytes"]?["f16"]?.integer == 2 * 16 * 2 * 2 * 2048)
  }

  @Test func layersAreSums() throws {
    let report = try json([Self.slabs.get()[0], "--layers", "--tensors"])
    let layers = try #require(report["layers"]?.array)
    let tensors = try #require(report["tensors"]?.array)
    let zero = tensors.filter { $0["layer"]?.integer == 0 }
    #expect(layers[0]["name"] == "0" && layers[0]["tensors"]?.integer == zero.count)
    #expect(
      layers[0]["stored_bytes"]?.integer
        == zero.reduce(0) { $0 + ($1["stored_bytes"]?.integer ?? 0) })
    #expect(layers.contains { $0["name"] == "embedding" })
    #expect(layers.reduce(0) { $0 + ($1["tensors"]?.integer ?? 0) } == tensors.count)
  }

  /// Every byte of every file is accounted for, once.
  @Test func layoutsCoverTheFiles() throws {
    let slabs = try Self.slabs.get()
    for path in slabs + [Pebble.directory.path, Self.gguf] {
      let report = try json([path])
      let files = try #require(report["summary"]?["files"]?.array)
      let regions = try #require(try json([path, "--layout"])["layout"]?["regions"]?.array)
      for (index, file) in files.enumerated() {
        var end = 0
        for region in regions where region["file"]?.integer == index {
          #expect(region["offset"]?.integer == end)
          end += try #require(region["bytes"]?.integer)
        }
        #expect(end == file["bytes"]?.integer)
      }
      #expect(!regions.contains { $0["kind"] == "unused" })
      #expect(try text([path, "--layout"]).contains("byte map"))
    }
    let compressed = try json([slabs[1], "--layout"])["layout"]?["regions"]?.array
    #expect(compressed?.contains { $0["codec"] == "zstd" } == true)
  }

  @Test func showsOneTensor() throws {
    for path in try Self.slabs.get() {
      let slab = try Slab(path: path)
      let pool = WorkerPool(threadCount: 1)
      let matrix = try slab.matrix(named: Self.matrixName, pool: pool)
      let (rows, columns) = (matrix.geometry.rows, matrix.geometry.columns)
      var row = [Float](repeating: 0, count: columns)
      matrix.copyRow(3, into: &row)

      let report = try json([
        path, "--tensor", Self.matrixName, "--values", Self.matrixName + "[3,-4:]",
      ])
      let values = try #require(report["values"])
      #expect(
        values["slice"]
          == .array([.array([3, 4]), .array([.integer(columns - 4), .integer(columns)])]))
      let shown = values["values"]?.array?[0].array?.compactMap(\.double).map { Float($0) }
      #expect(shown == Array(row.suffix(4)))

      let tensor = try #require(report["tensor"])
      #expect(tensor["tensor"]?["encoding"]?.string == matrix.encoding.name)
      let counts = tensor["values"]?["histogram"]?["counts"]?.array?.compactMap(\.integer)
      #expect(counts?.reduce(0, +) == rows * columns)
      let codes = tensor["blocks"]?["code_counts"]?.array?.compactMap(\.integer)
      #expect(codes?.count == 16 && codes?.reduce(0, +) == rows * columns)
      let scales = tensor["blocks"]?["scale_counts"]?.array?.compactMap(\.integer)
      #expect(scales?.reduce(0, +) == tensor["blocks"]?["count"]?.integer)
      #expect(tensor["streams"]?.array?.count == 4)

      let page = try text([path, "--tensor", Self.matrixName])
      for words in ["panels of 16 rows", "one block", "codebook", "block scales", "coarsest"] {
        #expect(page.contains(words))
      }
    }
  }

  /// The blocks that are furthest from the checkpoint, in arithmetic of this test's own.
  @Test func showsTheLargestErrors() throws {
    let path = try Self.slabs.get()[0]
    let source = Pebble.directory.path
    let slab = try Slab(path: path)
    let checkpoint = try Checkpoint(directory: source)
    let matrix = try slab.matrix(named: Self.matrixName, pool: WorkerPool(threadCount: 1))
    let view = try checkpoint.matrix(named: Self.matrixName)
    var blocks: [(row: Int, column: Int, error: Double, weights: Double, largest: Double)] = []
    for row in 0..<view.rows {
      var (w, v) = (Array(repeating: Float(0), count: view.columns), [Float]())
      v = w
      view.copyRow(row, into: &w)
      matrix.copyRow(row, into: &v)
      for column in stride(from: 0, to: view.columns, by: 16) {
        let pairs = (column..<column + 16).map { (Double(w[$0]), Double(v[$0])) }
        blocks.append(
          (
            row, column, pairs.reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) },
            pairs.reduce(0) { $0 + $1.0 * $1.0 }, pairs.map { abs($0.0 - $0.1) }.max()!
          ))
      }
    }
    withExtendedLifetime(checkpoint) {}
    let worst = blocks.sorted { $0.error > $1.error }.prefix(5)
    let arguments = [path, "--tensor", Self.matrixName, "--source", source]
    let report = try #require(try json(arguments)["tensor"]?["source_error"])
    #expect(report["source"]?.string == source)
    let found = try #require(report["blocks"]?.array)
    #expect(found.count == 5)
    for (block, expected) in zip(found, worst) {
      #expect(block["row"]?.integer == expected.row)
      #expect(block["column"]?.integer == expected.column && block["columns"]?.integer == 16)
      #expect(block["squared_error"]?.double == expected.error)
      #expect(block["normalized_mean_squared_error"]?.double == expected.error / expected.weights)
      #expect(block["largest_difference"]?.double == expected.largest)
    }
    let recorded = try #require(slab.tensor(named: Self.matrixName)?.statistics)
    let error = try #require(report["normalized_mean_squared_error"]?.double)
    #expect(abs(error - recorded.normalizedMeanSquaredError) <= error * 1e-9)
    #expect(report["maximum_absolute_error"]?.double == recorded.maximumAbsoluteError)
    let page = try text(arguments)
    #expect(page.contains("blocks with the largest error"))
    #expect(page.contains("\(worst[0].column)…\(worst[0].column + 15)"))

    // Norms are as they were: no block has an error.
    let norm = try json([path, "--tensor", "model.norm.weight", "--source", source])
    #expect(norm["tensor"]?["source_error"]?["blocks"] == .array([]))
    #expect(norm["tensor"]?["source_error"]?["normalized_mean_squared_error"]?.double == 0)
    #expect(try json([path, "--tensor", "model.norm.weight"])["tensor"]?["source_error"] == .null)
    let alone = try quarry.run(["inspect", path, "--source", source])
    #expect(alone.status == 64 && alone.errors.contains("--source is for --tensor"))
    let other = try quarry.run([
      "inspect", path, "--tensor", "model.norm.weight", "--source",
      Place.goldens.appending(path: "checkpoints/granite-tied").path,
    ])
    #expect(other.status == 1 && other.errors.contains("has shape"))
    let gguf = try quarry.run(
      ["inspect", path, "--tensor", "model.norm.weight", "--source", Self.gguf])
    #expect(gguf.status == 1 && gguf.errors.contains("has no tensor model.norm.weight"))
  }

  @Test func showsAssetsAndMetadata() throws {
    let report = try json([Self.slabs.get()[0], "--assets", "--metadata"])
    let config = try Data(contentsOf: Pebble.directory.appending(path: "config.json"))
    let asset = report["assets"]?.array?.first { $0["name"] == "config.json" }
    #expect(asset?["bytes"]?.integer == config.count)
    #expect(report["metadata"]?.array?.contains { $0["key"] == "tool" } == true)

    let tokens = try json([Self.gguf, "--metadata"])["metadata"]?.array?
      .first { $0["key"] == "tokenizer.ggml.tokens" }
    #expect(tokens?["count"]?.integer == 300 && tokens?["value"]?.array?.count == 300)
    let page = try text([Self.gguf, "--metadata"])
    #expect(page.contains("token 5, … (300 elements)") && !page.contains("token 6"))
  }

  @Test func readsGGUF() throws {
    #expect(try text([Self.gguf]).contains("GGUF version 3, granite"))
    let list = try text([Self.gguf, "--tensors", "other.*"])
    #expect(list.contains("other.TQ1_0") && !list.contains("attn_q"))
    #expect(try text([Self.gguf, "--tensor", "other.Q4_0"]).contains("of 32 columns in 18 bytes"))
    let whole = try json([Self.gguf, "--values", "token_embd.weight[2,7]"])["values"]
    let half = try json([Self.gguf, "--values", "blk.0.attn_q.weight[2,7]"])["values"]
    let (a, b) = (
      whole?["values"]?.array?[0].array?[0].double, half?["values"]?.array?[0].array?[0].double
    )
    #expect(try abs(#require(a) - #require(b)) < 1e-3 && a != b)
    let refused = try quarry.run(["inspect", Self.gguf, "--values", "other.Q4_0"])
    #expect(refused.status == 1 && refused.errors.contains("Q4_0 is not decoded"))
  }

  @Test func readsShardsWithoutAConfiguration() throws {
    try Place.withTemporaryDirectory { directory in
      for name in try FileManager.default.contentsOfDirectory(atPath: Pebble.directory.path)
      where name.contains(".safetensors") {
        try FileManager.default.copyItem(
          at: Pebble.directory.appending(path: name), to: directory.appending(path: name))
      }
      let index = directory.appending(path: "model.safetensors.index.json").path
      for path in [directory.path, index] {
        let report = try json([path])
        #expect(report["kind"] == "shard set")
        #expect(report["summary"]?["files"]?.array?.count == 2)
        #expect(report["summary"]?["memory"]?.array?.isEmpty == true)
      }
    }
  }

  /// Selection, what the error says.
  @Test(arguments: [
    ("nothing", "has no tensor nothing"), ("down_proj", "there is model.layers.0.mlp.down_proj"),
    ("model.norm.weight[0,0]", "has 1 dimensions"), ("model.norm.weight[x]", "is no selection"),
    ("model.norm.weight[1:2:3]", "is no selection"), ("model.norm.weight[]", "is no selection"),
    ("model.norm.weight[99999]", "outside of"), ("model.norm.weight[5:5]", "selects nothing"),
  ])
  func refusesSelections(_ selection: String, _ words: String) throws {
    let outcome = try quarry.run(["inspect", Self.slabs.get()[0], "--values", selection])
    #expect(outcome.status == 1 && outcome.errors.contains(words), "\(outcome.errors)")
  }

  @Test func aPatternMayBeLeftOut() throws {
    let slab = try Self.slabs.get()[0]
    #expect(try text(["--tensors", slab]) == text([slab, "--tensors"]))
    #expect(try quarry.run(["inspect", "--tensors", "*"]).status == 64)
  }

  /// Names, metadata and values of a hostile file reach no terminal raw, in no view.
  @Test func nothingSteersTheTerminal() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "x.safetensors").path
      let name = "a\u{1B}[2J\u{9B}b\u{202E}\u{2028}"
      try SafetensorsWriter.write(
        path: path, tensors: [(name, [1], [1])], metadata: [(name, name)])
      for view in [
        [], ["--tensors"], ["--layers"], ["--metadata"], ["--layout"], ["--tensor", name],
        ["--values", name],
      ] {
        for form in [[], ["--json"]] {
          let output = try text([path] + view + form)
          let hostile = output.unicodeScalars.filter { $0 != "\n" }.contains {
            [.control, .format, .lineSeparator].contains($0.properties.generalCategory)
          }
          #expect(!hostile, "\(view) \(form)")
        }
      }
      #expect(try json([path, "--tensors"])["tensors"]?.array?[0]["name"]?.string == name)
    }
  }

  private static let hasScript = FileManager.default.isExecutableFile(atPath: "/usr/bin/script")

  /// On a terminal lines are as wide as it, and coloured unless somebody objects.
  @Test(.enabled(if: hasScript, "needs script(1), which runs a program on a terminal"))
  func fitsTheTerminal() throws {
    let slab = try Self.slabs.get()[0]
    let terminal = Program(executable: URL(filePath: "/usr/bin/script"))
    for view in ["", "--tensors", "--layers", "--layout", "--tensor \(Self.matrixName)"] {
      let command = "stty cols 64; '\(quarry.executable.path)' inspect '\(slab)' \(view)"
      let arguments = ["-q", "-e", "-c", command, "/dev/null"]
      let plain = try terminal.run(arguments, environment: ["NO_COLOR": "1", "TERM": "xterm"])
      #expect(plain.status == 0)
      #expect(!plain.output.contains("\u{1B}"))
      for line in plain.output.split(whereSeparator: \.isNewline)
      where !line.contains(slab) {
        // A digest is longer than that, and in one piece.
        #expect(line.count <= 64 || line.contains("root ") || line.contains("digest"), "\(line)")
      }
      let coloured = try terminal.run(arguments, environment: ["NO_COLOR": "", "TERM": "xterm"])
      #expect(coloured.output.contains("\u{1B}["))
    }
    #expect(try !text([slab, "--layout"]).contains("\u{1B}"))
  }
}
