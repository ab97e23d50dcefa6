import Foundation
import TensorCore
import TestSupport
import Testing

@testable import ModelFiles

/// The committed vectors are what this code writes, and hold what their JSON says.
///
/// `QUARRY_RECORD=1 swift test -c release --filter SlabVectorTests` writes them anew.
@Suite struct SlabVectorTests {
  @Test(arguments: SlabVectors.all)
  func committedVectorsAreUpToDate(vector: SlabVectors.Vector) throws {
    try Place.withTemporaryDirectory { directory in
      let fresh = directory.appending(path: "fresh.slab")
      try SlabVectors.write(vector, to: fresh.path)
      let expectation = try SlabVectors.expectation(of: Slab(path: fresh.path))
      if ProcessInfo.processInfo.environment["QUARRY_RECORD"] == "1" {
        try FileManager.default.createDirectory(
          at: SlabVectors.directory, withIntermediateDirectories: true)
        try Data(contentsOf: fresh).write(to: vector.file)
        try Data(expectation.utf8).write(to: vector.json)
      }
      let slab = try Slab(path: vector.file.path)
      try slab.verify(pool: SlabFixtures.pool)
      #expect(try SlabVectors.expectation(of: slab) == expectation)
      #expect(try String(contentsOf: vector.json, encoding: .utf8) == expectation)
      // Another version of libzstd may compress otherwise; the model is the same all the same.
      if slab.metadata["zstd"] == Zstd.version {
        #expect(try SlabFixtures.bytes(vector.file.path) == SlabFixtures.bytes(fresh.path))
      }
    }
  }

  /// The vectors are there to show every codec and encoding, in both layouts.
  @Test func everythingOccurs() throws {
    let tensors = try SlabVectors.all.flatMap { try Slab(path: $0.file.path).tensors }
    #expect(Set(tensors.flatMap { $0.streams.map(\.codec) }) == Set(SlabCodec.allCases))
    #expect(Set(tensors.map(\.encoding)) == Set(BlockEncoding.allCases))
    #expect(Set(tensors.map(\.layout)) == [.plain, .panel16])
    #expect(tensors.contains { $0.streams.contains { $0.frameCount > 1 && $0.codec == .zstd } })
    #expect(
      tensors.contains { $0.streams.contains { $0.frameCount > 1 && $0.codec == .zstdPlanes } })
  }

  @Test func profilesHaveOneIdentity() throws {
    let slabs = try SlabVectors.all.map { ($0.name, try Slab(path: $0.file.path).rootDigest) }
    for (name, root) in slabs {
      for (other, otherRoot) in slabs { #expect((name == other) == (root == otherRoot)) }
    }
  }
}
