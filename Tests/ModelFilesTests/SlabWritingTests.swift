import Foundation
import Synchronization
import TensorCore
import TestSupport
import Testing

@testable import ModelFiles

@Suite struct SlabWritingTests {
  /// Appends what both profiles and several threads have something to do with.
  private static func append(_ writer: SlabWriter) throws {
    let scales = SlabFixtures.scales(200, seed: 1)
    for encoding in BlockEncoding.allCases {
      try writer.append(
        SlabFixtures.matrix(
          encoding, rows: 70, columns: 200, seed: 2,
          columnScales: encoding.isQuantized ? ColumnScales(scales) : nil),
        name: "layer.\(encoding.name)", shape: [70, 200], sourceType: .bf16,
        columnScales: encoding.isQuantized ? "scales" : nil, statistics: nil)
    }
    try writer.append(
      SlabFixtures.regularMatrix(.q8b32, rows: 1100, columns: 1000), name: "frames",
      shape: [1100, 1000], sourceType: .bf16, columnScales: nil, statistics: nil)
    try writer.append(scales, name: "scales", shape: [200], sourceType: .f32)
    try writer.append((0..<500).map { Float($0) }, name: "a", shape: [500], sourceType: .f32)
    try writer.append(
      SlabFixtures.matrix(.bf16, rows: 20, columns: 100, seed: 3), name: "output",
      shape: [20, 100], sourceType: .f16, columnScales: nil, statistics: nil)
  }

  private static let assets = [
    SlabAsset(name: "b", bytes: [UInt8](repeating: 1, count: 3000)),
    SlabAsset(name: "a", bytes: Array("short".utf8)),
  ]

  @Test func bytesDependOnNothingButTheInput() throws {
    try Place.withTemporaryDirectory { directory in
      for profile in SlabProfile.allCases {
        let files = try [1, 2, 5].map { threadCount in
          let path = directory.appending(path: "\(threadCount).slab").path
          try SlabFixtures.write(
            path, profile: profile, assets: threadCount == 2 ? Self.assets : Self.assets.reversed(),
            replacing: true, pool: WorkerPool(threadCount: threadCount), Self.append)
          return try SlabFixtures.bytes(path)
        }
        #expect(files[0] == files[1] && files[0] == files[2])
      }
    }
  }

  @Test func repackingThereAndBackGivesTheSameBytes() throws {
    try Place.withTemporaryDirectory { directory in
      func path(_ name: String) -> String { directory.appending(path: name).path }
      for profile in SlabProfile.allCases {
        try SlabFixtures.write(
          path(profile.name), profile: profile, assets: Self.assets, Self.append)
      }
      let (run, ship) = (try Slab(path: path("run")), try Slab(path: path("ship")))
      #expect(run.rootDigest == ship.rootDigest)
      #expect(ship.fileByteCount < run.fileByteCount)
      for (source, profile) in [(run, SlabProfile.ship), (ship, .run), (run, .run), (ship, .ship)] {
        var (calls, last) = (0, (0, 1))
        try Repacking.repack(
          source, to: path("again"), profile: profile, replacing: true, pool: SlabFixtures.pool
        ) { done, total in
          calls += 1
          last = (done, total)
        }
        #expect(try SlabFixtures.bytes(path("again")) == SlabFixtures.bytes(path(profile.name)))
        #expect(calls > 10 && last.0 == last.1)
        try Slab(path: path("again")).verify(pool: SlabFixtures.pool)
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).count == 3)
    }
  }

  @Test(arguments: [0, 1, 7])
  func cancelledRepackingLeavesNothing(_ questions: Int) throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try SlabFixtures.write(path, profile: .run, assets: Self.assets, Self.append)
      let slab = try Slab(path: path)
      let asked = Atomic(0)
      let error = #expect(throws: SlabError.self) {
        try Repacking.repack(
          slab, to: path + "2", profile: .ship, replacing: false, pool: SlabFixtures.pool,
          isCancelled: { asked.add(1, ordering: .relaxed).oldValue == questions })
      }
      // Frames that a thread skipped are never written, although a later answer was no.
      #expect(error?.reason == .cancelled)
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["a.slab"])
    }
  }

  @Test func rootCoversContentAndNames() throws {
    try Place.withTemporaryDirectory { directory in
      func root(
        tensor: String = "t", values: [Float] = [1, 2], shape: [Int] = [2], asset: String = "a",
        bytes: [UInt8] = [1], metadata: [String: String] = [:]
      ) throws -> Digest {
        let path = directory.appending(path: "x.slab").path
        try SlabFixtures.write(
          path, profile: .run, assets: [SlabAsset(name: asset, bytes: bytes)], metadata: metadata,
          replacing: true
        ) { try $0.append(values, name: tensor, shape: shape, sourceType: .f32) }
        return try Slab(path: path).rootDigest
      }
      let variants = [
        try root(), try root(tensor: "u"), try root(values: [1, 3]), try root(shape: [1, 2]),
        try root(asset: "b"), try root(bytes: [2]), try root(bytes: []),
      ]
      #expect(Set(variants).count == variants.count)
      #expect(try root(metadata: ["tool": "other"]) == variants[0])
    }
  }

  // MARK: - Refusals

  /// Starts a writer, or says why not.
  private func start(
    _ path: String, replacing: Bool = false, inputs: [String] = [], expectedByteCount: Int = 0
  ) -> Result<SlabWriter, SlabError> {
    Result { () throws(SlabError) in
      try SlabWriter(
        path: path, profile: .run, replacing: replacing, inputs: inputs, assets: [], metadata: [:],
        expectedByteCount: expectedByteCount, pool: SlabFixtures.pool)
    }
  }

  private func reason(_ result: Result<SlabWriter, SlabError>) -> SlabError.Reason? {
    if case .failure(let error) = result { error.reason } else { nil }
  }

  @Test func inputsAreNeverOverwritten() throws {
    try Place.withTemporaryDirectory { directory in
      func path(_ name: String) -> String { directory.appending(path: name).path }
      try Data([1, 2, 3]).write(to: URL(filePath: path("input")))
      try FileManager.default.createSymbolicLink(
        atPath: path("symbolic"), withDestinationPath: path("input"))
      try FileManager.default.linkItem(atPath: path("input"), toPath: path("hard"))
      try FileManager.default.linkItem(atPath: path("input"), toPath: path("other.partial"))
      for output in [
        "input", "symbolic", "hard", "other", "../\(directory.lastPathComponent)/input",
      ] {
        let result = start(path(output), replacing: true, inputs: [path("input")])
        #expect(reason(result) == .outputIsInput, "\(output)")
      }
      // Not an input, but a partial file that is also something else must not be emptied.
      guard case .failure(let error) = start(path("other")) else {
        Issue.record("a linked partial file was emptied")
        return
      }
      #expect(error.description.contains("remove it first"))
      #expect(try SlabFixtures.bytes(path("input")) == [1, 2, 3])
    }
  }

  @Test func existingOutputsAreReplacedOnlyIfAsked() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try Data([1, 2, 3]).write(to: URL(filePath: path))
      #expect(reason(start(path)) == .outputExists)
      #expect(reason(start(directory.path, replacing: true)) == .invalidInput)
      guard case .failure(let error) = start("/nowhere/a.slab") else { fatalError() }
      #expect(error.reason == .system(code: 2))
      #expect(error.description.contains("No such file or directory"))

      let writer = try start(path, replacing: true).get()
      #expect(try SlabFixtures.bytes(path) == [1, 2, 3])
      try writer.finish()
      #expect(try Slab(path: path).tensors.isEmpty)
      #expect(writer.rootDigest == (try Slab(path: path)).rootDigest)
      // One that comes into being meanwhile is safe as well.
      let second = directory.appending(path: "b.slab").path
      let late = try start(second).get()
      try Data([1, 2, 3]).write(to: URL(filePath: second))
      #expect(throws: SlabError.self) { try late.finish() }
      #expect(try SlabFixtures.bytes(second) == [1, 2, 3])
    }
  }

  @Test func oneWriterAtATime() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      let first = try start(path).get()
      #expect(reason(start(path)) == .busy)
      first.cancel()
      #expect(!FileManager.default.fileExists(atPath: path + ".partial"))
      // What a killed process left there is taken over.
      try Data([UInt8](repeating: 1, count: 100_000)).write(to: URL(filePath: path + ".partial"))
      try start(path).get().finish()
      #expect(try Slab(path: path).tensors.isEmpty)
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["a.slab"])
    }
  }

  @Test func freeSpaceIsCheckedFirst() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      for byteCount in [1 << 60, .max] {
        guard
          case .insufficientSpace(let needed, let available)? =
            reason(start(path, expectedByteCount: byteCount))
        else {
          Issue.record("\(byteCount) bytes were found")
          continue
        }
        #expect(needed >= byteCount && available > 0 && available < needed)
      }
      let left = try FileManager.default.contentsOfDirectory(atPath: directory.path)
      #expect(left == [])
    }
  }

  @Test func anUnfinishedFileIsRefused() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      let copy = directory.appending(path: "copy.slab").path
      let writer = try start(path).get()
      try writer.append([1, 2], name: "t", shape: [2], sourceType: .f32)
      try FileManager.default.copyItem(atPath: path + ".partial", toPath: copy)
      let error = #expect(throws: SlabError.self) { try Slab(path: copy) }
      #expect(error?.reason == .unfinished)
    }
  }

  /// What a caller may get wrong, and that nothing is left of the file then.
  @Test func wrongCallsAreRefused() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      let matrix = SlabFixtures.matrix(.q8b16, rows: 2, columns: 3, seed: 1)
      let scaled = SlabFixtures.matrix(
        .q8b16, rows: 2, columns: 3, seed: 1, columnScales: ColumnScales([1, 2, 3]))
      let codes = AlignedBuffer(byteCount: 16 * 32)
      codes.base.storeBytes(of: 1, toByteOffset: 3, as: UInt8.self)  // column 3 of row 0
      let padded = WeightMatrix(
        encoding: .q8b16, geometry: matrix.geometry,
        streams: [
          .codes: codes.bytes, .blockScales: matrix.stream(.blockScales)!,
          .rowScales: matrix.stream(.rowScales)!,
        ], owners: [codes])
      func add(
        _ matrix: WeightMatrix, _ name: String = "m", shape: [Int] = [2, 3], scales: String? = nil,
        statistics: ErrorStatistics? = nil
      ) -> (SlabWriter) throws -> Void {
        {
          try $0.append(
            matrix, name: name, shape: shape, sourceType: .f32, columnScales: scales,
            statistics: statistics)
        }
      }
      func add(
        _ values: [Float], _ name: String = "v", shape: [Int]
      ) -> (SlabWriter) throws -> Void {
        { try $0.append(values, name: name, shape: shape, sourceType: .f32) }
      }
      let undefined = ErrorStatistics(
        normalizedMeanSquaredError: .infinity, maximumAbsoluteError: 0, cosineSimilarity: 0)
      let cases: [(text: String, calls: [(SlabWriter) throws -> Void])] = [
        ("padding of its codes", [add(padded)]),
        ("written before", [add(matrix), add(matrix)]),
        ("written before", [add(matrix), add([1], "m", shape: [1])]),
        ("1 to 255 bytes", [add(matrix, "")]),
        ("1 to 255 bytes", [add(matrix, String(repeating: "é", count: 128))]),
        ("control characters", [add(matrix, "a\nb")]),
        ("not that of the matrix", [add(matrix, shape: [3, 2])]),
        ("not finite", [add(matrix, statistics: undefined)]),
        ("without a name", [add(scaled)]),
        ("without a name", [add(matrix, scales: "v")]),
        ("not in the file", [add(scaled, scales: "v")]),
        ("no plain tensor", [add(scaled, scales: "v"), add([1, 2], shape: [2])]),
        ("other column scales", [add(scaled, scales: "v"), add([1, 2, 4], shape: [3])]),
        ("have 8 bytes, not 12", [add([1, 2], shape: [3])]),
        ("no tensor of shape", [add([], shape: [0])]),
        ("no tensor of shape", [add([], shape: [])]),
        ("no tensor of shape", [add([], shape: [1 << 40, 1 << 40])]),
      ]
      for (text, calls) in cases {
        let writer = try start(path).get()
        let error = #expect(throws: SlabError.self, "\(text)") {
          for call in calls { try call(writer) }
          try writer.finish()
        }
        #expect(error?.reason == .invalidInput)
        #expect(error?.description.contains(text) == true, "\(error?.description ?? "")")
        #expect(throws: SlabError.self) { try writer.finish() }
        let left = try FileManager.default.contentsOfDirectory(atPath: directory.path)
        #expect(left == [])
      }
      // Names that Swift holds equal are two.
      let writer = try start(path).get()
      try writer.append([1], name: "\u{E9}", shape: [1], sourceType: .f32)
      try writer.append([2], name: "e\u{301}", shape: [1], sourceType: .f32)
      try writer.finish()
      let slab = try Slab(path: path)
      #expect(try slab.values(named: "\u{E9}") == [1])
      #expect(try slab.values(named: "e\u{301}") == [2])
    }
  }

  @Test func wrongAssetsAreRefused() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      for names in [["a", "a"], ["a/b"], [".."], [""]] {
        let error = #expect(throws: SlabError.self) {
          try SlabFixtures.write(
            path, profile: .run, assets: names.map { SlabAsset(name: $0, bytes: []) }
          ) { _ in }
        }
        #expect(error?.reason == .invalidInput)
      }
      let left = try FileManager.default.contentsOfDirectory(atPath: directory.path)
      #expect(left == [])
    }
  }

  @Test func missingTensorsAreNamed() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try SlabFixtures.write(path, profile: .run, Self.append)
      let slab = try Slab(path: path)
      for name in ["nowhere", "scales"] {
        let error = #expect(throws: SlabError.self) {
          try slab.matrix(named: name, pool: SlabFixtures.pool)
        }
        #expect(error?.reason == .missing && error?.name == name)
      }
      let error = #expect(throws: SlabError.self) { try slab.values(named: "output") }
      #expect(error?.reason == .missing)
      #expect(slab.tensor(named: "nowhere") == nil && slab.asset(named: "nowhere") == nil)
    }
  }

  // MARK: - A disk that fills

  /// The system refuses to let the file grow: the error has its words, and nothing is left.
  @Test func aFullDiskIsReported() async {
    await #expect(processExitsWith: .success) {
      try Place.withTemporaryDirectory { directory in
        signal(SIGXFSZ, SIG_IGN)
        var limit = rlimit(rlim_cur: 100_000, rlim_max: 100_000)
        setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
        for profile in SlabProfile.allCases {
          let path = directory.appending(path: "a.slab").path
          do {
            try SlabFixtures.write(path, profile: profile, Self.append)
            exit(1)
          } catch let error as SlabError {
            precondition(error.reason == .system(code: EFBIG))
            precondition(error.description.contains("File too large"))
            precondition(error.path == path + ".partial")
          }
          let left = try FileManager.default.contentsOfDirectory(atPath: directory.path)
          precondition(left.isEmpty)
        }
      }
    }
  }
}
