import Conversion
import Foundation
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Testing

/// Slabs as checkpoints for other tools.
@Suite struct ExportTests {
  private static let pool = WorkerPool(threadCount: 2)

  private static func convert(
    _ checkpoint: Checkpoint, _ recipe: Recipe, profile: SlabProfile = .run, to url: URL
  ) throws -> Slab {
    _ = try Converter(
      checkpoint: checkpoint, recipe: recipe, calibration: .none, profile: profile, pool: pool
    ).run(to: url.path)
    return try Slab(path: url.path)
  }

  /// The files of a directory.
  private static func names(_ url: URL) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: url.path).sorted()
  }

  private static func relations(_ a: String, _ b: String) throws -> [ModelDifference.Relation] {
    let difference = try #require(
      try ModelDifference.compare(
        ModelListing(path: a), ModelListing(path: b), pool: pool))
    #expect(difference.assets.filter { !$0.isSame }.isEmpty)
    return difference.tensors.map(\.relation)
  }

  /// Bit for bit, in shards or in one file, and back to the same slab.
  @Test(arguments: [5_000_000_000, 3_000_000]) func bfloat16IsIdentical(shardSize: Int) throws {
    try Place.withTemporaryDirectory { directory in
      let source = try Checkpoint(directory: Pebble.directory.path)
      let slab = try Self.convert(source, .bf16, to: directory.appending(path: "a.slab"))
      let output = directory.appending(path: "out")
      var last = (0, 1)
      let byteCount = try CheckpointExport.write(
        slab, to: output.path, maximumShardByteCount: shardSize, pool: Self.pool,
        progress: { last = ($0, $1) })
      #expect(last.0 == last.1 && byteCount == 2 * last.1)
      let relations = try Self.relations(source.directory, output.path)
      #expect(relations.count == source.tensors.count)
      #expect(relations.allSatisfy { $0 == .identical })
      let exported = try Checkpoint(directory: output.path)
      #expect(exported.warnings == source.warnings)
      #expect((exported.weightFiles.count > 3) == (shardSize < 5_000_000))
      for file in exported.weightFiles {
        #expect(file.metadata.map(\.key) == ["format"] && file.metadata.map(\.value) == ["pt"])
        let count = file.tensors.reduce(0) { $0 + $1.byteRange.count }
        #expect(count <= shardSize || file.tensors.count == 1)
      }
      let again = try Self.convert(exported, .bf16, to: directory.appending(path: "b.slab"))
      #expect(again.rootDigest == slab.rootDigest)
    }
  }

  /// Every dequantized value, column scales folded in, is in the float32 directory, which converts back.
  @Test(arguments: SlabProfile.allCases) func float32IsExact(profile: SlabProfile) throws {
    try Place.withTemporaryDirectory { directory in
      let source = try Checkpoint(directory: Pebble.directory.path)
      let url = directory.appending(path: "a.slab")
      _ = try Converter(
        checkpoint: source, recipe: .q4, profile: profile, pool: Self.pool
      ).run(to: url.path)
      let slab = try Slab(path: url.path)
      #expect(slab.tensors.contains { $0.columnScales != nil })
      let output = directory.appending(path: "out")
      try CheckpointExport.write(slab, to: output.path, as: .f32, pool: Self.pool)
      let exported = try Checkpoint(directory: output.path)
      #expect(exported.tensors.map(\.name) == source.tensors.map(\.name))
      for tensor in exported.tensors where tensor.shape.count == 2 {
        let matrix = try slab.matrix(named: tensor.name, pool: Self.pool)
        let view = try exported.matrix(named: tensor.name)
        var a = [Float](repeating: 0, count: view.columns)
        var b = a
        for row in 0..<view.rows {
          matrix.copyRow(row, into: &a)
          view.copyRow(row, into: &b)
          #expect(a == b)
        }
      }
      let again = try Self.convert(exported, .f32, to: directory.appending(path: "b.slab"))
      let relations = try Self.relations(url.path, again.path)
      #expect(relations.allSatisfy { $0 == .equal || $0 == .identical })
    }
  }

  /// Every committed variation comes back as it was.
  @Test(arguments: ConversionTests.names) func everyVariation(name: String) throws {
    try Place.withTemporaryDirectory { directory in
      let source = try ConversionTests.golden(name)
      let slab = try Self.convert(source, .f32, to: directory.appending(path: "a.slab"))
      let output = directory.appending(path: "out")
      try CheckpointExport.write(slab, to: output.path + "/", as: .f32, pool: Self.pool)
      let exported = try Checkpoint(directory: output.path)
      #expect(exported.tensors.map(\.name) == source.tensors.map(\.name))
      for tensor in source.tensors {
        #expect(
          try exported.values(named: tensor.name) == source.values(named: tensor.name))
      }
    }
  }

  @Test func bfloat16RoundsToNearest() throws {
    try Place.withTemporaryDirectory { directory in
      let url = directory.appending(path: "a.slab")
      let slab = try Self.convert(
        try ConversionTests.golden("granite-tied"), .q8, to: url)
      let output = directory.appending(path: "out")
      try CheckpointExport.write(slab, to: output.path, pool: Self.pool)
      let exported = try Checkpoint(directory: output.path)
      defer { withExtendedLifetime(exported) {} }  // views borrow its memory
      let name = "model.layers.0.mlp.down_proj.weight"
      let (matrix, view) = (
        try slab.matrix(named: name, pool: Self.pool), try exported.matrix(named: name)
      )
      var a = [Float](repeating: 0, count: view.columns)
      var b = a
      for row in 0..<view.rows {
        matrix.copyRow(row, into: &a)
        view.copyRow(row, into: &b)
        #expect(a.map { Float(bfloat16Bits: $0.bfloat16Bits) } == b)
      }
    }
  }

  @Test func nothingIsLeftOfWhatFails() throws {
    try Place.withTemporaryDirectory { directory in
      let url = directory.appending(path: "a.slab")
      let slab = try Self.convert(try ConversionTests.golden("granite-tied"), .bf16, to: url)
      let output = directory.appending(path: "out").path
      #expect(throws: CancellationError.self) {
        try CheckpointExport.write(slab, to: output, pool: Self.pool, isCancelled: { true })
      }
      #expect(try Self.names(directory) == ["a.slab"])

      // Somebody else's files are nobody's leftovers.
      let partial = directory.appending(path: "out.partial")
      try FileManager.default.createDirectory(at: partial, withIntermediateDirectories: false)
      try Data("mine".utf8).write(to: partial.appending(path: "notes.txt"))
      #expect(throws: FileError.self) {
        try CheckpointExport.write(slab, to: output, pool: Self.pool)
      }
      #expect(try Self.names(partial) == ["notes.txt"])
      try FileManager.default.removeItem(at: partial)

      // Damage is found in weights that nothing else checks.
      let handle = try FileHandle(forUpdating: url)
      try handle.seek(
        toOffset: UInt64(slab.tensorsInFileOrder.last { $0.layout == .panel16 }!.offset))
      handle.write(Data([0x55, 0x2A]))
      let error = #expect(throws: SlabError.self) {
        try CheckpointExport.write(slab, to: output, pool: Self.pool)
      }
      #expect(error?.reason == .damaged)
      #expect(try Self.names(directory) == ["a.slab"])
    }
  }

  /// What overflows is named: float32 overflows in dequantizing, bfloat16 in rounding.
  @Test func valuesThatAreNotFiniteAreRefused() throws {
    let extremes = try Slab(
      path: Place.root.appending(path: "formats/vectors/extremes-run.slab").path)
    try Place.withTemporaryDirectory { directory in
      let output = directory.appending(path: "out").path
      #expect(
        throws: ExportError.noConfiguration(path: extremes.path)
      ) { try CheckpointExport.write(extremes, to: output, pool: Self.pool) }
      for (value, type) in [(Float.greatestFiniteMagnitude, RowEncoding.bf16), (.infinity, .f32)] {
        let path = directory.appending(path: "a.slab").path
        let writer = try SlabWriter(
          path: path, profile: .run, replacing: true, inputs: [],
          assets: [SlabAsset(name: "config.json", bytes: Array("{}".utf8))], metadata: [:],
          expectedByteCount: 0, pool: Self.pool)
        try writer.append([1, 2, value, value], name: "norm", shape: [2, 2], sourceType: .f32)
        try writer.finish()
        let error = #expect(throws: ExportError.self) {
          try CheckpointExport.write(
            try Slab(path: path), to: output, as: type, pool: Self.pool)
        }
        #expect(
          error == .nonFinite(path: path, tensor: "norm", row: 1, column: 0, type: type.rawValue))
        #expect(try Self.names(directory) == ["a.slab"])
      }
    }
  }
}
