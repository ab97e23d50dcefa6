import Foundation
import TensorCore
import TestSupport
import Testing

@testable import ModelFiles

/// Bringing all weights into memory, whether they are mapped, copied or decompressed.
@Suite struct SlabLoadingTests {
  /// Matrices of several frames and of less than one.
  private static let matrices: [(name: String, matrix: WeightMatrix)] = [
    ("zebra", SlabFixtures.matrix(.q8b16, rows: 1500, columns: 1500, seed: 1)),
    ("antelope", SlabFixtures.matrix(.q4b32, rows: 37, columns: 70, seed: 2)),
    ("gnu", SlabFixtures.matrix(.bf16, rows: 900, columns: 1300, seed: 3)),
  ]

  private func withSlab(
    _ profile: SlabProfile, _ body: (_ path: String) throws -> Void
  ) throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try SlabFixtures.write(path, profile: profile) { writer in
        for (name, matrix) in Self.matrices {
          try writer.append(
            matrix, name: name, shape: [matrix.geometry.rows, matrix.geometry.columns],
            sourceType: .bf16, columnScales: nil, statistics: nil)
        }
      }
      try body(path)
    }
  }

  @Test(arguments: SlabProfile.allCases, WeightLoading.allCases)
  func everyWayGivesTheSameWeights(profile: SlabProfile, loading: WeightLoading) throws {
    try withSlab(profile) { path in
      let slab = try Slab(path: path)
      for threads in [1, 3] {
        var calls: [(done: Int, total: Int)] = []
        let weights = try SlabWeights(
          slab, loading: loading, pool: WorkerPool(threadCount: threads)
        ) { calls.append(($0, $1)) }
        #expect(calls.last?.done == calls.last?.total && calls.last!.total > 4 << 20)
        #expect(calls.map(\.done) == calls.map(\.done).sorted())
        for (name, matrix) in Self.matrices {
          let read = try weights.matrix(named: name)
          #expect(read.allBytes == matrix.allBytes)
          // Where it lies: in the pages of the file, or not.
          let mapped = Set(slab.mappedBytes.indices)
          let place = read.codes.baseAddress! - slab.mappedBytes.baseAddress!
          #expect(mapped.contains(place) == (profile == .run && loading == .map))
        }
      }
      #expect(throws: SlabError.self) {
        try SlabWeights(slab, loading: loading, pool: SlabFixtures.pool).matrix(named: "lion")
      }
    }
  }

  @Test func copiedWeightsOutliveTheirFile() throws {
    try withSlab(.run) { path in
      let weights = try SlabWeights(
        Slab(path: path), loading: .copy, pool: SlabFixtures.pool)
      try FileHandle(forWritingTo: URL(filePath: path)).truncate(atOffset: 0)
      for (name, matrix) in Self.matrices {
        #expect(try weights.matrix(named: name).allBytes == matrix.allBytes)
      }
    }
  }

  /// A file that became shorter after it was opened is an error, not the end of the process.
  @Test(arguments: SlabProfile.allCases, WeightLoading.allCases)
  func aShorterFileIsAnError(profile: SlabProfile, loading: WeightLoading) throws {
    try withSlab(profile) { path in
      let slab = try Slab(path: path)
      try FileHandle(forWritingTo: URL(filePath: path)).truncate(
        atOffset: UInt64(slab.fileByteCount / 2))
      let error = #expect(throws: SlabError.self) {
        try SlabWeights(slab, loading: loading, pool: SlabFixtures.pool)
      }
      #expect(error?.message.contains("the file became shorter while it was read") == true)
      guard case .system = error?.reason else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
  }

  @Test(arguments: [1, 4])
  func namesTheFirstDamagedFrame(threads: Int) throws {
    try withSlab(.ship) { path in
      let slab = try Slab(path: path)
      let handle = try FileHandle(forUpdating: URL(filePath: path))
      func flip(_ offset: Int) throws {
        try handle.seek(toOffset: UInt64(offset))
        let byte = try #require(try handle.read(upToCount: 1)?.first)
        try handle.seek(toOffset: UInt64(offset))
        handle.write(Data([byte ^ 1]))
      }
      // From the last to the first in the order of the file.
      let streams = slab.tensorsInFileOrder.flatMap { tensor in tensor.streams.map { (tensor, $0) }
      }
      for (tensor, stream) in streams.reversed() {
        for (frame, range) in stream.bytes.frameRanges.enumerated().reversed() {
          try flip(range.lowerBound + range.count / 2)
          let error = #expect(throws: SlabError.self) {
            try SlabWeights(slab, loading: .map, pool: WorkerPool(threadCount: threads))
          }
          #expect(error?.reason == .damaged)
          #expect(error?.name == tensor.name && error?.stream == stream.kind)
          #expect(error?.frame == frame && error?.byteRange == range)
        }
      }
    }
  }
}
