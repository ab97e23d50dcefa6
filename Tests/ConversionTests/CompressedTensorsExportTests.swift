import Conversion
import Foundation
import JSON
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Testing

/// Slabs as checkpoints of compressed-tensors, read back.
@Suite struct CompressedTensorsExportTests {
  private static let pool = WorkerPool(threadCount: 2)

  private static func convert(
    _ checkpoint: Checkpoint, _ recipe: Recipe, calibration: Calibration = .none, to url: URL
  ) throws -> Slab {
    _ = try Converter(
      checkpoint: checkpoint, recipe: recipe, calibration: calibration, profile: .run, pool: pool
    ).run(to: url.path)
    return try Slab(path: url.path)
  }

  private static func recipe(_ rules: String) throws -> Recipe {
    try Recipe(yaml: Array("base: q8\nrules:\n\(rules)".utf8), path: "test")
  }

  /// The tensors of all files of a directory, in the order of names.
  private struct Exported {
    let tensors: [(file: SafetensorsFile, tensor: TensorDescriptor)]
    let quantization: JSONValue

    init(_ url: URL) throws {
      let names = try FileManager.default.contentsOfDirectory(atPath: url.path)
      tensors = try names.filter { $0.hasSuffix(".safetensors") }.flatMap { name in
        let file = try SafetensorsFile(path: url.appending(path: name).path)
        return file.tensors.map { (file, $0) }
      }
      let configuration = try JSONValue(
        parsing: Array(Data(contentsOf: url.appending(path: "config.json"))))
      quantization = try #require(configuration["quantization_config"])
    }

    var names: Set<String> { Set(tensors.map(\.tensor.name)) }
    var ignored: [String] { quantization["ignore"]?.array?.compactMap(\.string) ?? [] }

    func elements<Element: BitwiseCopyable>(
      _ name: String, _ type: DataType, _ shape: [Int], as: Element.Type
    ) throws -> [Element] {
      let (file, tensor) = try #require(tensors.first { $0.tensor.name == name }, "\(name)")
      #expect(tensor.dataType == type && tensor.shape == shape, "\(name)")
      let bytes = file.bytes(of: tensor)
      return stride(from: 0, to: bytes.count, by: MemoryLayout<Element>.size).map {
        bytes.loadUnaligned(fromByteOffset: $0, as: Element.self)
      }
    }
  }

  private static func rows(_ slab: Slab, _ name: String) throws -> [[Float]] {
    let matrix = try slab.matrix(named: name, pool: pool)
    return (0..<matrix.geometry.rows).map { row in
      var values = [Float](repeating: 0, count: matrix.geometry.columns)
      matrix.copyRow(row, into: &values)
      return values
    }
  }

  /// Σ(w − ŵ)² and Σw², row by row.
  private static func squares(_ weights: [[Float]], _ written: [[Float]]) -> (Double, Double) {
    var sums = (0.0, 0.0)
    for (row, writtenRow) in zip(weights, written) {
      var inner = (0.0, 0.0)
      for (w, v) in zip(row, writtenRow) {
        inner.0 += (Double(w) - Double(v)) * (Double(w) - Double(v))
        inner.1 += Double(w) * Double(w)
      }
      sums = (sums.0 + inner.0, sums.1 + inner.1)
    }
    return sums
  }

  /// Bytes, scales and errors in arithmetic of this test's own; column scales are folded in.
  @Test(arguments: [Recipe.q8, .q8s]) func pebbleIsReadBack(recipe: Recipe) throws {
    try Place.withTemporaryDirectory { directory in
      let slab = try Self.convert(
        try Checkpoint(directory: Pebble.directory.path), recipe, calibration: .bundled,
        to: directory.appending(path: "a.slab"))
      #expect(slab.tensors.contains { $0.columnScales != nil })
      let output = directory.appending(path: "out")
      var last = (0, 1)
      let outcome = try CompressedTensorsExport.write(
        slab, to: output.path, maximumShardByteCount: 3_000_000, pool: Self.pool,
        progress: { last = ($0, $1) })
      #expect(last.0 == last.1)
      let exported = try Exported(output)
      #expect(outcome.byteCount == exported.tensors.reduce(0) { $0 + $1.tensor.byteCount })
      #expect(exported.ignored == ["lm_head"])
      let group = exported.quantization["config_groups"]?["group_0"]
      #expect(group?["weights"]?["group_size"] == .integer(32))
      #expect(exported.quantization["format"] == .string("pack-quantized"))

      var total = (0.0, 0.0)
      var worst = ("", -1.0)
      let scales = Set(slab.tensors.compactMap(\.columnScales))
      for tensor in slab.tensorsInFileOrder where !scales.contains(tensor.name) {
        let (name, columns) = (tensor.name, tensor.shape.last!)
        let weights: [[Float]]
        var written: [[Float]] = []
        if tensor.encoding == .f32 || name == "model.embed_tokens.weight" {
          let isMatrix = tensor.shape.count == 2
          weights = isMatrix ? try Self.rows(slab, name) : [try slab.values(named: name)]
          let bits = try exported.elements(name, .bf16, tensor.shape, as: UInt16.self)
          for (row, values) in weights.enumerated() {
            let part = bits[row * columns..<(row + 1) * columns]
            #expect(Array(part) == values.map(\.bfloat16Bits))
            written.append(part.map { Float(bfloat16Bits: $0) })
          }
        } else {
          weights = try Self.rows(slab, name)
          let (rowCount, groups) = (tensor.shape[0], columns / 32)
          let packed = try exported.elements(
            name + "_packed", .i32, [rowCount, columns / 4], as: Int32.self)
          let steps = try exported.elements(
            name + "_scale", .bf16, [rowCount, groups], as: UInt16.self)
          let shape = try exported.elements(name + "_shape", .i64, [2], as: Int64.self)
          #expect(shape == tensor.shape.map(Int64.init))
          for (row, values) in weights.enumerated() {
            var line: [Float] = []
            for group in 0..<groups {
              let part = Array(values[32 * group..<32 * group + 32])
              let step = Float(bfloat16Bits: (part.map(abs).max()! / 127).bfloat16Bits)
              #expect(steps[row * groups + group] == step.bfloat16Bits && step > 0)
              for (index, value) in part.enumerated() {
                let column = 32 * group + index
                let word = UInt32(bitPattern: packed[row * columns / 4 + column / 4])
                let code = Int(word >> (8 * (UInt32(column) % 4)) & 255) - 128
                #expect(Float(code) == (value * (1 / step)).rounded(.toNearestOrEven))
                line.append(Float(code) * step)
              }
            }
            written.append(line)
          }
        }
        let (error, squares) = Self.squares(weights, written)
        total = (total.0 + error, total.1 + squares)
        if error / squares > worst.1 { worst = (name, error / squares) }
      }
      #expect(outcome.normalizedMeanSquaredError == total.0 / total.1)
      #expect(outcome.worstTensor == worst.0 && outcome.worstError == worst.1)
    }
  }

  /// The same bytes whatever the number of threads.
  @Test func threadsChangeNothing() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = try Self.convert(
        try Checkpoint(directory: Pebble.directory.path), .q8,
        to: directory.appending(path: "a.slab"))
      let outcomes = try [1, 3].map { threads in
        try CompressedTensorsExport.write(
          slab, to: directory.appending(path: "\(threads)").path,
          pool: WorkerPool(threadCount: threads))
      }
      #expect(outcomes[0] == outcomes[1])
      for name in try FileManager.default.contentsOfDirectory(
        atPath: directory.appending(path: "1").path)
      {
        let files = try ["1", "3"].map {
          try Data(contentsOf: directory.appending(path: "\($0)/\(name)"))
        }
        #expect(files[0] == files[1], "\(name)")
      }
    }
  }

  /// Every committed variation: fused MLPs, biases, and rows that are no whole groups, which stay bf16, as
  /// do experts.
  @Test(arguments: ConversionTests.names) func everyVariation(name: String) throws {
    try Place.withTemporaryDirectory { directory in
      let slab = try Self.convert(
        try ConversionTests.golden(name), .q8, to: directory.appending(path: "a.slab"))
      let output = directory.appending(path: "out")
      let isLinear = { (tensor: SlabTensor) in
        let role = TensorRole(tensorName: tensor.name)!
        return role.isMatrix && !role.isOfExperts
          && ![.embedding, .positions, .output, .router].contains(role)
      }
      guard slab.tensors.contains(where: { isLinear($0) && $0.shape[1] % 32 == 0 }) else {
        #expect(throws: ExportError.self) {
          try CompressedTensorsExport.write(slab, to: output.path + "/", pool: Self.pool)
        }
        return
      }
      let outcome = try CompressedTensorsExport.write(
        slab, to: output.path + "/", pool: Self.pool)
      let exported = try Exported(output)
      var expected: Set<String> = []
      var ignored = ["lm_head"]
      var expertByteCount = 0
      for tensor in slab.tensors {
        let module = tensor.name.replacing(".weight", with: "")
        if isLinear(tensor) {
          if tensor.shape[1] % 32 == 0 {
            expected.formUnion(["packed", "scale", "shape"].map { tensor.name + "_" + $0 })
            continue
          }
          ignored.append(module)
        }
        if TensorRole(tensorName: tensor.name)!.isOfExperts {
          let weights = try slab.weights(named: tensor.name, pool: Self.pool)
          let bits = try exported.elements(tensor.name, .bf16, tensor.shape, as: UInt16.self)
          var row = [Float](repeating: 0, count: tensor.shape[2])
          for index in 0..<tensor.shape[0] * tensor.shape[1] {
            weights.copyRow(index, into: &row)
            let part = bits[index * row.count..<(index + 1) * row.count]
            #expect(Array(part) == row.map(\.bfloat16Bits))
          }
          expertByteCount += 2 * tensor.elementCount
        }
        expected.insert(tensor.name)
      }
      if expertByteCount > 0 { ignored.append(#"re:.*\.block_sparse_moe\..*"#) }
      #expect(outcome.expertByteCount == expertByteCount)
      #expect(exported.names == expected)
      #expect(exported.ignored.sorted() == ignored.sorted())
      let isBigCode = exported.names.contains("transformer.wte.weight")
      #expect(exported.quantization["dequantize"] == (isBigCode ? .bool(true) : nil))
    }
  }

  /// What vLLM joins is quantized together or not at all.
  @Test func unquantizedLayersStayUnquantized() throws {
    try Place.withTemporaryDirectory { directory in
      let recipe = try Self.recipe(
        """
        - {roles: value, layers: 1, encoding: bf16}
        - {roles: down, layers: 2, encoding: f32}
        """)
      let slab = try Self.convert(
        try Checkpoint(directory: Pebble.directory.path), recipe,
        to: directory.appending(path: "a.slab"))
      let output = directory.appending(path: "out")
      try CompressedTensorsExport.write(slab, to: output.path, pool: Self.pool)
      let exported = try Exported(output)
      let ignored = ["q", "k", "v"].map { "model.layers.1.self_attn.\($0)_proj" }
      let others = ["lm_head", "model.layers.2.mlp.down_proj"]
      #expect(exported.ignored.sorted() == (ignored + others).sorted())
      for module in ignored {
        let name = module + ".weight"
        let values = try Self.rows(slab, name)
        let bits = try exported.elements(
          name, .bf16, [values.count, values[0].count], as: UInt16.self)
        #expect(bits == values.joined().map(\.bfloat16Bits))
      }
      #expect(exported.names.contains("model.layers.1.self_attn.o_proj.weight_packed"))
    }
  }

  @Test func whatDoesNotFitIsRefused() throws {
    try Place.withTemporaryDirectory { directory in
      let output = directory.appending(path: "out").path
      func refusal(_ recipe: Recipe) throws -> String {
        let url = directory.appending(path: recipe.name + ".slab")
        let slab = try Self.convert(
          try Checkpoint(directory: Pebble.directory.path), recipe, to: url)
        let error = #expect(throws: ExportError.self) {
          try CompressedTensorsExport.write(slab, to: output, pool: Self.pool)
        }
        #expect(!FileManager.default.fileExists(atPath: output))
        return error?.description ?? ""
      }
      let codebook = try refusal(.q4)
      #expect(codebook.contains("q4b16") && codebook.contains("codebook"))
      #expect(codebook.contains("--recipe q8") && codebook.contains("--to safetensors"))
      #expect(try refusal(.bf16).contains("no linear layer has 8 bits"))
      // Four bits in one layer are too few, in the embedding they do not matter: it is bf16.
      let one = try Self.recipe("- {roles: key, layers: 3, encoding: q4b32}")
      #expect(try refusal(one).contains("model.layers.3.self_attn.k_proj.weight is q4b32"))
      let embedding = try Self.convert(
        try Checkpoint(directory: Pebble.directory.path),
        try Self.recipe("- {roles: embedding, encoding: q4b16}"),
        to: directory.appending(path: "e.slab"))
      try CompressedTensorsExport.write(embedding, to: output, pool: Self.pool)
    }
  }

  /// Scales of zeros are positive; values that overflow in the slab are refused, and where.
  @Test func extremeGroups() throws {
    try Place.withTemporaryDirectory { directory in
      let name = "model.layers.0.mlp.down_proj.weight"
      let path = directory.appending(path: "a.slab").path
      let geometry = try #require(PanelGeometry(rows: 2, columns: 64))
      /// Both rows have this scale; of the codes, one of row 1 is not 0.
      func export(rowScale: Float, code: Int8, column: Int, to output: String) throws -> Exported {
        var streams: [StreamKind: AlignedBuffer] = [:]
        for kind in BlockEncoding.q8b32.streams {
          streams[kind] = AlignedBuffer(byteCount: geometry.byteCount(of: kind, in: .q8b32))
          memset(streams[kind]!.base, 0, streams[kind]!.byteCount)
        }
        let place = geometry.elementOffset(row: 1, column: column, elementBytes: 1)
        streams[.codes]!.base.storeBytes(of: code, toByteOffset: place, as: Int8.self)
        for row in 0..<2 {
          streams[.rowScales]!.floats[row] = rowScale
          for block in 0..<2 {
            let place = geometry.blockScaleOffset(row: row, block: block, blockSize: 32)
            streams[.blockScales]!.base.storeBytes(of: 127, toByteOffset: place, as: Int8.self)
          }
        }
        let matrix = WeightMatrix(
          encoding: .q8b32, geometry: geometry, streams: streams.mapValues(\.bytes),
          owners: Array(streams.values))
        let writer = try SlabWriter(
          path: path, profile: .run, replacing: true, inputs: [],
          assets: [SlabAsset(name: "config.json", bytes: Array("{}".utf8))], metadata: [:],
          expectedByteCount: 0, pool: Self.pool)
        try writer.append(
          matrix, name: name, shape: [2, 64], sourceType: .f32, columnScales: nil, statistics: nil)
        try writer.finish()
        let url = directory.appending(path: output)
        try CompressedTensorsExport.write(try Slab(path: path), to: url.path, pool: Self.pool)
        return try Exported(url)
      }
      for (index, rowScale) in [Float(1), 0x1p-146].enumerated() {
        let exported = try export(rowScale: rowScale, code: -126, column: 37, to: "\(index)")
        let scales = try exported.elements(name + "_scale", .bf16, [2, 2], as: UInt16.self)
        // Where 127 steps are less than the smallest normal number, nothing is left.
        let step = Float(127 * 127 * 126) / 127
        #expect(
          scales == [1, 1, 1, index == 0 ? step : 1].map(\.bfloat16Bits), "\(rowScale)")
        let codes = try exported.elements(name + "_packed", .i32, [2, 16], as: UInt32.self)
        var expected = [UInt32](repeating: 0x8080_8080, count: 32)
        if index == 0 { expected[16 + 37 / 4] = 0x8080_0180 }
        #expect(codes == expected)
      }
      let error = #expect(throws: ExportError.self) {
        _ = try export(rowScale: 1e36, code: 126, column: 37, to: "none")
      }
      #expect(
        error
          == .nonFinite(path: path, tensor: name, row: 1, column: 37, type: "int8 with a scale"))
      #expect(!FileManager.default.fileExists(atPath: directory.appending(path: "none").path))
    }
  }

  @Test func nothingIsLeftOfWhatFails() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = try Self.convert(
        try ConversionTests.golden("granite-tied"), .q8, to: directory.appending(path: "a.slab"))
      #expect(throws: CancellationError.self) {
        try CompressedTensorsExport.write(
          slab, to: directory.appending(path: "out").path, pool: Self.pool, isCancelled: { true })
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["a.slab"])
    }
  }
}
