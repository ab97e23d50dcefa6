import Foundation
import TensorCore
import TestSupport
import Testing

@testable import ModelFiles

/// One case for every way in which a slab can lie.
@Suite struct SlabHostileTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let reason: SlabError.Reason
    /// What the description of the error must contain.
    let text: String
    /// Whether opening is to succeed and ``Slab/verify(pool:progress:)`` to fail.
    let isFoundByVerify: Bool
    let forge: @Sendable (inout SlabForgery) -> Void

    init(
      _ description: String, _ reason: SlabError.Reason, _ text: String, byVerify: Bool = false,
      _ forge: @escaping @Sendable (inout SlabForgery) -> Void
    ) {
      testDescription = description
      self.reason = reason
      self.text = text
      isFoundByVerify = byVerify
      self.forge = forge
    }

    /// A case that is malformed.
    init(
      _ description: String, _ text: String, byVerify: Bool = false,
      _ forge: @escaping @Sendable (inout SlabForgery) -> Void
    ) {
      self.init(description, .malformed, text, byVerify: byVerify, forge)
    }
  }

  /// `a` (q4b16, column scales `c`), `b` (bf16, 3 rows of 40), `c` and `d` (plain), and two assets.
  private static func write(_ path: String, profile: SlabProfile) throws {
    let assets = ["x.json", "y.json"].map {
      SlabAsset(name: $0, bytes: [UInt8](repeating: 7, count: 500))
    }
    try SlabFixtures.write(path, profile: profile, assets: assets, metadata: ["key": "value"]) {
      writer in
      let scales = SlabFixtures.scales(20, seed: 1)
      try writer.append(
        SlabFixtures.matrix(
          .q4b16, rows: 18, columns: 20, seed: 2, columnScales: ColumnScales(scales)),
        name: "aaa", shape: [18, 20], sourceType: .bf16, columnScales: "ccc",
        statistics: ErrorStatistics(
          normalizedMeanSquaredError: 1, maximumAbsoluteError: 2, cosineSimilarity: 3))
      try writer.append(
        SlabFixtures.matrix(.bf16, rows: 3, columns: 40, seed: 3), name: "bbb", shape: [3, 40],
        sourceType: .bf16, columnScales: nil, statistics: nil)
      try writer.append(scales, name: "ccc", shape: [20], sourceType: .f32)
      try writer.append(
        (0..<64).map { Float($0 % 3) }, name: "ddd", shape: [64], sourceType: .f32)
    }
  }

  private static func name(_ text: String) -> [UInt8] {
    [UInt8(text.utf8.count), 0] + Array(text.utf8)
  }

  private static func put<T: FixedWidthInteger>(_ value: T, _ bytes: inout [UInt8], _ offset: Int) {
    withUnsafeBytes(of: value.littleEndian) {
      bytes.replaceSubrange(offset..<offset + $0.count, with: $0)
    }
  }

  static let superblockCases: [Case] = [
    Case("all zero", .unfinished, "never finished") {
      $0.clearsSuperblock = true
    },
    Case("another magic number", .notASlab, "not a slab") { $0.patchSuperblock = { $0[1] = 0x50 } },
    Case("a later version", .unsupported, "version") { $0.patchSuperblock = { $0[8] = 2 } },
    Case("big-endian", .unsupported, "big-endian") {
      $0.patchSuperblock = { $0.replaceSubrange(12..<16, with: [1, 2, 3, 4]) }
    },
    Case("unknown byte order", .unsupported, "byte order") { $0.patchSuperblock = { $0[12] = 9 } },
    Case("must-understand bit", .unsupported, "0x8000000000000000") {
      $0.patchSuperblock = { $0[23] = 0x80 }
    },
    Case("index in the superblock", "behind the superblock") {
      $0.patchSuperblock = { put(UInt64(64), &$0, 32) }
    },
    Case("unaligned index", "multiple of 64") {
      $0.patchSuperblock = {
        $0[32] &+= 1
        $0[40] &-= 1
      }
    },
    Case("index at 2^63", "at most") { $0.patchSuperblock = { put(UInt64(1) << 63, &$0, 32) } },
    Case("index of 2^63 bytes", "at most 67108864") {
      $0.patchSuperblock = { put(UInt64(1) << 63, &$0, 40) }
    },
    Case("index longer than the file", .damaged, "cut short") {
      $0.patchSuperblock = { put(UInt64(1) << 20, &$0, 40) }
    },
    Case("bytes behind the index", "goes on") { $0.tail = [1] },
    Case("reserved bytes", "reserved") { $0.patchSuperblock = { $0[2000] = 1 } },
    Case("another root digest", "root digest") { $0.patchSuperblock = { $0[80] ^= 1 } },
    Case("another index digest", .damaged, "does not match its digest") {
      $0.patchSuperblock = { $0[48] ^= 1 }
    },
  ]

  static let indexCases: [Case] = [
    Case("empty index", "ends in the middle") { $0.indexBytes = [] },
    Case("unknown profile", .unsupported, "profile") {
      $0.indexBytes = [2] + $0.index.encoded().dropFirst()
    },
    Case("bytes behind the last record", "behind its last record") {
      $0.indexBytes = $0.index.encoded() + [0]
    },
    Case("too many metadata entries", "4096") { $0.replaceCount(at: 1, with: 5000) },
    Case("more metadata entries than bytes", "too short") { $0.replaceCount(at: 1, with: 4000) },
    Case("metadata out of order", "out of order") {
      $0.replace(name("zstd-level"), with: name("astd-level"))
    },
    Case("metadata twice", "twice") { $0.replace(name("zstd-level"), with: name("zstd")) },
    Case("metadata value too long", "at most 65535") {
      $0.replace([5, 0, 0, 0] + Array("value".utf8), with: [5, 0, 1, 0] + Array("value".utf8))
    },
    Case("metadata value that is not UTF-8", "not UTF-8") {
      $0.replace(Array("value".utf8), with: [0x76, 0xC3, 0x28, 0x75, 0x65])
    },
    Case("asset with a path", "file name") { $0.index.assets[1].name = "y/../z" },
    Case("asset called ..", "file name") { $0.index.assets[0].name = ".." },
    Case("asset twice", "twice") { $0.index.assets[0].name = "y.json" },
    Case("assets out of order", "out of order") { $0.index.assets[0].name = "z.json" },
    Case("asset in planes", "one byte") { $0.index.assets[0].bytes.codec = .zstdPlanes },
    Case("asset of 2^62 bytes", "at most") { $0.index.assets[0].bytes.logicalByteCount = 1 << 62 },
    Case("asset of another length", "content size") {
      $0.index.assets[0].bytes.logicalByteCount = 501
    },
    Case("name that is not UTF-8", "not UTF-8") {
      $0.replace([3, 0] + Array("ddd".utf8), with: [3, 0, 0x64, 0xFF, 0x64])
    },
    Case("empty name", "1 to 255") { $0.replace([3, 0] + Array("ddd".utf8), with: [0, 0]) },
    Case("name too long", "1 to 255") {
      $0.change("ddd", renamed: String(repeating: "d", count: 256))
    },
    Case("name with an escape sequence", "control characters") {
      $0.change("ddd", renamed: "d\u{1B}[2J")
    },
    Case("tensor twice", "twice") { $0.change("bbb", renamed: "aaa") },
    Case("tensors out of order", "out of order") { $0.change("ddd", renamed: "abb") },
    Case("unknown source type", .unsupported, "source type") {
      $0.replace(name("ddd") + [0, 0, 0, 1], with: name("ddd") + [9, 0, 0, 1])
    },
    Case("unknown encoding", .unsupported, "encoding") {
      $0.replace(name("ddd") + [0, 0, 0, 1], with: name("ddd") + [0, 6, 0, 1])
    },
    Case("unknown layout", .unsupported, "layout") {
      $0.replace(name("ddd") + [0, 0, 0, 1], with: name("ddd") + [0, 0, 2, 1])
    },
    Case("no dimensions", "1 to 8") {
      $0.replace(name("ddd") + [0, 0, 0, 1], with: name("ddd") + [0, 0, 0, 0])
    },
    Case("nine dimensions", "1 to 8") {
      $0.replace(name("ddd") + [0, 0, 0, 1], with: name("ddd") + [0, 0, 0, 9])
    },
    Case("dimension of zero", "the shape") { $0.change("ddd", shape: [64, 0]) },
    Case("dimension of 2^63", "at most") {
      $0.replace(
        name("ddd") + [0, 0, 0, 1, 64, 0, 0, 0, 0, 0, 0, 0],
        with: name("ddd") + [0, 0, 0, 1, 64, 0, 0, 0, 0, 0, 0, 128])
    },
    Case("product of dimensions overflows", "the shape") {
      $0.change("ddd", shape: [1 << 32, 1 << 32, 1 << 32])
    },
    Case("product of dimensions wraps to the true size", "the shape") {
      $0.change("ddd", shape: [1 << 40, 1 << 22, 1 << 6, 64])
    },
    Case("plain q4", "the shape") { $0.change("aaa", layout: .plain) },
    Case("matrix of four dimensions", "the shape") { $0.change("aaa", shape: [1, 1, 18, 20]) },
    Case("no experts", "the shape") { $0.change("aaa", shape: [0, 18, 20]) },
    Case("too many experts", "the shape") { $0.change("aaa", shape: [4097, 18, 20]) },
    Case("more experts than bytes", "belong to the shape") {
      $0.change("aaa", shape: [2, 18, 20])
    },
    Case("experts whose sizes overflow", "the shape") {
      $0.change("aaa", shape: [1 << 12, 1 << 31, 1 << 24])
    },
    Case("column scales of the rows of experts", "no plain tensor") {
      $0.change("aaa", shape: [1, 20, 18])
    },
    Case("matrix too wide", "the shape") { $0.change("aaa", shape: [1, 1 << 25]) },
    Case("shape larger than the bytes", "does not belong to the shape") {
      $0.change("ddd", shape: [65])
    },
    Case("shape of another number of panels", "does not belong to the shape") {
      $0.change("aaa", shape: [33, 20])
    },
    Case("encoding with other streams", "number of streams") {
      $0.change("aaa", encoding: .q8b16)
    },
    Case("a stream missing", "number of streams") {
      $0.changeStreams("aaa") { Array($0.dropLast()) }
    },
    Case("streams in another order", "kind of a stream") {
      $0.changeStreams("aaa") { [$0[1], $0[0], $0[2], $0[3]] }
    },
    Case("flag that is neither", "0 or 1") {
      $0.replace(
        name("ddd") + [0, 0, 0, 1, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        with: name("ddd") + [0, 0, 0, 1, 64, 0, 0, 0, 0, 0, 0, 0, 2])
    },
    Case("statistics that are not numbers", "not finite") {
      $0.change(
        "aaa",
        statistics: ErrorStatistics(
          normalizedMeanSquaredError: .nan, maximumAbsoluteError: 0, cosineSimilarity: 1))
    },
    Case("column scales that are not there", "not in the file") {
      $0.change("aaa", columnScales: "nowhere")
    },
    Case("column scales of another length", "no plain tensor") {
      $0.change("aaa", columnScales: "ddd")
    },
    Case("column scales that are a matrix", "no plain tensor") {
      $0.change("aaa", columnScales: "bbb")
    },
    Case("column scales of itself", "no plain tensor") { $0.change("aaa", columnScales: "aaa") },
    Case("column scales of a bf16 matrix", "quantized") { $0.change("bbb", columnScales: "ccc") },
    Case("column scales of a plain tensor", "quantized") { $0.change("ddd", columnScales: "ccc") },
  ]

  static let placeCases: [Case] = [
    Case("unknown codec", .unsupported, "codec") { $0.replaceCodec("aaa", .codebook, with: 3) },
    Case("compressed matrix in profile run", "expected raw") {
      $0.change("aaa", .rowScales) { $0.compress() }
    },
    Case("codes in planes", "one byte") {
      $0.index.profile = .ship
      $0.change("aaa", .codes) {
        $0.compress()
        $0.codec = .zstdPlanes
      }
    },
    Case("stream that overlaps another", "overlaps") {
      $0.change("ddd", .elements) { $0.offset -= 64 }
    },
    Case("two tensors in one place", "overlaps") { forgery in
      let scales = forgery.index.tensors[2].streams
      forgery.change("ddd", shape: [20], streams: scales)
    },
    Case("stream in the superblock", "overlaps") {
      $0.change("aaa", .codes) { $0.offset = 64 }
    },
    Case("hole before a stream", "does not begin where") {
      $0.change("ddd", .elements) { $0.offset += 64 }
    },
    Case("unaligned stream", "does not begin where") {
      $0.change("aaa", .blockScales) { $0.offset += 1 }
    },
    Case("stream behind the end", "at most") {
      $0.change("ddd", .elements) { $0.offset = 1 << 40 }
    },
    Case("stream across the index", "does not begin where") { forgery in
      let end = forgery.index.assets[1].bytes.byteRange.upperBound
      forgery.change("ddd", .elements) { $0.offset = end / 64 * 64 }
    },
    Case("hole before an asset", "does not begin where") {
      $0.index.assets[1].bytes.offset += 64
    },
    Case("hole before the index", "does not begin where") {
      $0.patchData = { $0 += [UInt8](repeating: 0, count: 64) }
    },
    Case("raw stream longer than its frames", "belong to the frames") {
      $0.change("bbb", .elements) { $0.storedByteCount += 64 }
    },
    Case("stored length of 2^63", "at most") {
      $0.change("bbb", .elements) { $0.storedByteCount = .max }
    },
    Case("logical length of another shape", "belong to the shape") {
      $0.change("bbb", .elements) { $0.logicalByteCount += 1 }
    },
    Case("frame without bytes", "stored length of a frame") {
      $0.change("ddd", .elements) { $0.frames[0].storedByteCount = 0 }
    },
    Case("frame longer than zstd makes it", "stored length of a frame") {
      $0.change("ddd", .elements) { $0.frames[0].storedByteCount = 1 << 30 }
    },
    Case("asset of more frames than the index has", "too short for its frames") {
      $0.index.assets[1].bytes.logicalByteCount = 1 << 28
    },
    Case("assets too long together", "too long") { forgery in
      // Two assets of 2^27 + 1 bytes each, with all their frames.
      for asset in 0..<2 {
        forgery.index.assets[asset].bytes.logicalByteCount = 1 << 27 + 1
        forgery.index.assets[asset].bytes.frames = Array(
          repeating: forgery.index.assets[asset].bytes.frames[0], count: 129)
        forgery.index.assets[asset].bytes.storedByteCount =
          129 * forgery.index.assets[asset].bytes.frames[0].storedByteCount
      }
    },
    Case("padding behind the superblock", .damaged, "padding between") {
      $0.patchData = { $0[5000] = 1 }
    },
    Case("padding between streams", .damaged, "padding between") { forgery in
      let codebook = forgery.index.tensors[0].streams[3].bytes.byteRange
      forgery.patchData = { $0[codebook.upperBound] = 1 }
    },
  ]

  static let frameCases: [Case] = [
    Case("bytes that are no zstd frame", "not a zstd frame") {
      $0.replaceLastAsset(stored: [UInt8](repeating: 3, count: 40), logical: content)
    },
    Case("frame of one byte", "not a zstd frame") {
      $0.replaceLastAsset(stored: [0x28], logical: content)
    },
    Case("skippable frame", "not a zstd frame") {
      let frame: [UInt8] = [0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]
      $0.replaceLastAsset(stored: frame, logical: content)
    },
    Case("frame with a window of its own", "not a zstd frame") {
      $0.replaceLastAsset(stored: frame { $0[4] &= ~0x20 }, logical: content)
    },
    Case("frame with a checksum", "not a zstd frame") {
      $0.replaceLastAsset(stored: frame { $0[4] |= 4 }, logical: content)
    },
    Case("frame with a dictionary", "not a zstd frame") {
      $0.replaceLastAsset(stored: frame { $0[4] |= 1 }, logical: content)
    },
    Case("more content than declared", "content size") {
      $0.replaceLastAsset(stored: compressed(content + content), logical: content)
    },
    Case("less content than declared", "content size") {
      $0.replaceLastAsset(stored: compressed(content), logical: content + content)
    },
    Case("a content size that lies", "zstd") {
      // Single segment, content size in two bytes: 600 instead of 500 (stored less 256).
      $0.replaceLastAsset(
        stored: frame { $0.replaceSubrange(5..<7, with: [88, 1]) },
        logical: [UInt8](repeating: 7, count: 600))
    },
    Case("two frames", "exactly one") {
      $0.replaceLastAsset(stored: compressed(content) + compressed(content), logical: content)
    },
    Case("bytes behind the frame", "exactly one") {
      $0.replaceLastAsset(stored: compressed(content) + [0], logical: content)
    },
    Case("frame cut short", "exactly one") {
      $0.replaceLastAsset(stored: compressed(content).dropLast(), logical: content)
    },
    Case("content of another digest", "do not match their digest") {
      $0.replaceLastAsset(
        stored: compressed(content), logical: [UInt8](repeating: 8, count: content.count))
    },
  ]

  static let paddingCases: [Case] = [
    Case("row scale of a padded row", "byte 72 of the stream", byVerify: true) {
      $0.patch("aaa", .rowScales, at: 4 * 18, with: 1)
    },
    // 20 columns in blocks of 16: two blocks of 32 columns; the second panel has two rows.
    Case("block scale of a padded row", "byte 50 of the stream", byVerify: true) {
      $0.patch("aaa", .blockScales, at: 32 + 16 + 2, with: 1)
    },
    Case("code of a padded column", "byte 131 of the stream", byVerify: true) {
      $0.patch("aaa", .codes, at: 2 * 64 + 3, with: 0x10)
    },
    Case("element of a padded row", "byte 12 of the stream", byVerify: true) {
      $0.patch("bbb", .elements, at: 12, with: 1)
    },
    Case("element of a padded column", "byte 1284 of the stream", byVerify: true) {
      $0.patch("bbb", .elements, at: 20 * 64 + 4, with: 1)
    },
  ]

  @Test(arguments: superblockCases + indexCases + placeCases + frameCases + paddingCases)
  func liesAreRefused(lie: Case) throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try Self.write(path, profile: .run)
      var forgery = try SlabForgery(of: path)
      lie.forge(&forgery)
      try forgery.write(to: path)
      let error = #expect(throws: SlabError.self) {
        let slab = try Slab(path: path)
        #expect(lie.isFoundByVerify)
        try slab.verify(pool: SlabFixtures.pool)
      }
      #expect(error?.reason == lie.reason)
      #expect(error?.path == path)
      #expect(error?.description.contains(lie.text) == true, "\(error?.description ?? "")")
    }
  }

  /// The forger changes nothing unless told to.
  @Test func anHonestForgeryIsAccepted() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try Self.write(path, profile: .run)
      let original = try SlabFixtures.bytes(path)
      var forgery = try SlabForgery(of: path)
      try forgery.write(to: path)
      #expect(try SlabFixtures.bytes(path) == original)
      forgery.replaceLastAsset(stored: Self.compressed(Self.content), logical: Self.content)
      try forgery.write(to: path)
      try Slab(path: path).verify(pool: SlabFixtures.pool)
    }
  }

  /// Opening such a file is cheap; decompressing the tensor would take all memory.
  @Test func tensorsLargerThanMemoryAreRefused() throws {
    let count = SystemCalls.physicalByteCount / SlabFormat.frameByteCount + 1
    try #require(count * 68 < SlabFormat.maximumIndexByteCount / 2, "the index would be too long")
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      let frame = StoredFrame(digest: .zero, storedByteCount: 1, storedDigest: .zero)
      let bytes = StoredBytes(
        codec: .zstd, offset: SlabFormat.segmentAlignment, storedByteCount: count,
        logicalByteCount: count * SlabFormat.frameByteCount,
        frames: Array(repeating: frame, count: count))
      try SlabFixtures.write(path, profile: .run) { _ in }
      var forgery = try SlabForgery(of: path)
      forgery.index.tensors = [
        SlabTensor(
          name: "bomb", shape: [count * SlabFormat.frameByteCount / 4], sourceType: .f32,
          encoding: .f32, layout: .plain, columnScales: nil, statistics: nil,
          streams: [SlabStream(kind: .elements, bytes: bytes)], digest: .zero)
      ]
      forgery.patchData = {
        let end = SlabFormat.align(SlabFormat.segmentAlignment + count, to: 64)
        $0 += [UInt8](repeating: 0, count: end - $0.count)
      }
      try forgery.write(to: path)
      let slab = try Slab(path: path)
      for attempt in [
        { _ = try slab.values(named: "bomb") }, { try slab.verify(pool: SlabFixtures.pool) },
      ] {
        let error = #expect(throws: SlabError.self) { try attempt() }
        #expect(error?.reason == .unsupported && error?.name == "bomb")
      }
    }
  }

  @Test(arguments: ["/nowhere/a.slab", "/", "/dev/null", "/dev/zero", "a\0b"])
  func whatIsNoRegularFileIsRefused(path: String) {
    let error = #expect(throws: SlabError.self) { try Slab(path: path) }
    #expect(error?.path == path)
    if case .system = error?.reason {} else { Issue.record("\(error?.description ?? "")") }
  }

  /// Random changes of an index whose digests fit: the parser meets them all and survives.
  @Test func randomIndexesNeverTrap() throws {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "a.slab").path
      try Self.write(path, profile: .ship)
      let original = try SlabForgery(of: path)
      let bytes = original.index.encoded()
      var random = SplitMix64(seed: 11)
      var (refused, accepted) = (0, 0)
      for _ in 0..<6_000 {
        var changed = bytes
        for _ in 0...random.next() % 3 {
          let position = Int(random.next() % UInt64(changed.count))
          switch random.next() % 8 {
          case 0: changed.removeSubrange(position..<min(position + 8, changed.count))
          case 1: changed.insert(UInt8(truncatingIfNeeded: random.next()), at: position)
          case 2, 3: changed[position] = [0, 1, 127, 128, 255].randomElement(using: &random)!
          default: changed[position] = UInt8(truncatingIfNeeded: random.next())
          }
        }
        do {
          let index = try SlabIndex(changed, path: path, offset: 1 << 20)
          _ = try index.checkPlacement(path: path, indexOffset: 1 << 20)
        } catch is SlabError {
          refused += 1
        }
        // What parses goes all the way, for as long as that stays quick.
        guard accepted < 200, let index = try? SlabIndex(changed, path: path, offset: 1 << 20)
        else { continue }
        accepted += 1
        var forgery = original
        forgery.index = index
        try forgery.write(to: path)
        guard let slab = try? Slab(path: path) else { continue }
        for tensor in slab.tensors {
          _ = try? slab.matrix(named: tensor.name, pool: SlabFixtures.pool)
          _ = try? slab.values(named: tensor.name)
        }
        try? slab.verify(pool: SlabFixtures.pool)
      }
      #expect(refused > 3_000 && accepted == 200)
    }
  }

  private static let content = [UInt8](repeating: 7, count: 500)

  private static func compressed(_ bytes: [UInt8]) -> [UInt8] {
    bytes.withUnsafeBytes { Zstd.compress($0) }
  }

  /// A frame of ``content``, changed.
  private static func frame(_ change: (inout [UInt8]) -> Void) -> [UInt8] {
    var frame = compressed(content)
    change(&frame)
    return frame
  }
}

extension StoredBytes {
  /// Says that the bytes are compressed, as far as the index can say so.
  fileprivate mutating func compress() {
    codec = .zstd
    for index in frames.indices { frames[index].storedDigest = .zero }
  }
}
