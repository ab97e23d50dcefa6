import TestSupport
import Testing

@testable import TensorCore

/// Memory of one tile, which ends at a guard page.
struct GuardedTile {
  let memory: GuardedMemory
  let tile: AttentionTile

  init(_ type: CacheType, headSize: Int) {
    memory = GuardedMemory(
      byteCount: AttentionTile.byteCount(type, headSize: headSize)!, alignment: 64)
    tile = AttentionTile(memory.bytes.baseAddress!, type: type, headSize: headSize)
  }

  /// Makes positions from `first` on what no result may depend on.
  func poison(from first: Int) {
    for position in first..<AttentionTile.positions {
      for d in 0..<tile.headSize {
        let (k, v) = (tile.keyIndex(position, d), tile.valueIndex(position, d))
        switch tile.type {
        case .f32:
          tile.keys.storeBytes(of: .nan, toByteOffset: 4 * k, as: Float.self)
          tile.values.storeBytes(of: .nan, toByteOffset: 4 * v, as: Float.self)
        case .f16:
          tile.keys.storeBytes(of: 0x7E00, toByteOffset: 2 * k, as: UInt16.self)
          tile.values.storeBytes(of: 0x7C00, toByteOffset: 2 * v, as: UInt16.self)
        case .q8:
          tile.keys.storeBytes(of: -127, toByteOffset: k, as: Int8.self)
          tile.values.storeBytes(of: 127, toByteOffset: v, as: Int8.self)
        }
      }
      guard tile.type == .q8 else { continue }
      tile.keyScales[position] = 3e38
      tile.valueScales[position] = 3e38
    }
  }
}

extension KernelChecks {
  /// Queries of consecutive tokens, several heads each, over the positions up to theirs: all at once,
  /// and tile by tile with results that are merged afterwards.
  private func attention(
    _ type: CacheType, headSize: Int, heads: Int, positions: [Int], magnitude: Float,
    random: inout SplitMix64
  ) {
    let width = (headSize + 15) / 16 * 16
    let tileCount = (positions.last! + AttentionTile.positions - 1) / AttentionTile.positions
    var guarded: [GuardedTile] = []
    for tile in 0..<tileCount {
      guarded.append(GuardedTile(type, headSize: width))
      let held = min(positions.last! - tile * AttentionTile.positions, AttentionTile.positions)
      for position in 0..<held {
        let (key, value) = (normals(headSize, &random), normals(headSize, &random))
        #expect(
          kernels.enter(
            key: key, value: value, size: headSize, position: position, tile: guarded[tile].tile))
      }
      guarded[tile].poison(from: held)
    }
    let bases = UnsafeMutableBufferPointer<UnsafeMutableRawPointer>.allocate(capacity: tileCount)
    defer { bases.deallocate() }
    _ = bases.initialize(from: guarded.map { $0.memory.bytes.baseAddress! })
    let tiles = AttentionTiles(bases.baseAddress!, offset: 0, type: type, headSize: width)
    let counts = positions.flatMap { Array(repeating: $0, count: heads) }
    let queries = counts.map { _ in
      GuardedMemory(
        normals(headSize, &random).map { $0 * magnitude }
          + .init(repeating: 0, count: width - headSize))
    }

    func results(_ ranges: [Range<Int>]) -> [GuardedMemory] {
      var parts = ranges.map { _ in counts.map { _ in guardedFloats(width) } }
      var all: [AttentionQuery] = []
      for (range, outputs) in zip(ranges, parts) {
        var some = counts.indices.map {
          AttentionQuery(queries[$0].floats, output: outputs[$0].floats, positions: counts[$0])
        }
        some.withUnsafeMutableBufferPointer {
          kernels.attend($0, tiles: tiles, range: range, scale: 0.125)
        }
        if all.isEmpty {
          all = some
        } else {
          // Only those that have something there, as of the last tile some have not.
          let first = counts.firstIndex { $0 > range.lowerBound * AttentionTile.positions }!
          all.withUnsafeMutableBufferPointer { all in
            some.withUnsafeMutableBufferPointer {
              kernels.merge(
                .init(rebasing: $0[first...]), into: .init(rebasing: all[first...]),
                headSize: width)
            }
          }
        }
      }
      all.withUnsafeMutableBufferPointer { kernels.finish($0, headSize: width) }
      return parts.removeFirst()
    }
    let together = results([0..<tileCount])
    let apart = results((0..<tileCount).map { $0..<$0 + 1 })

    for (index, count) in counts.enumerated() {
      var expected: Reference.PartialAttention?
      for tile in 0...(count - 1) / AttentionTile.positions {
        let held = min(count - tile * AttentionTile.positions, AttentionTile.positions)
        Reference.merge(
          Reference.attend(
            query: queries[index].floats, tile: tiles[tile], count: held, scale: 0.125),
          into: &expected)
      }
      for output in [together[index], apart[index]] {
        let equal = (0..<width).allSatisfy {
          same(output.floats[$0], expected!.output[$0] / expected!.sum)
        }
        #expect(
          equal, "\(type), head size \(headSize), query \(index) of \(counts), times \(magnitude)")
      }
    }
    withExtendedLifetime(guarded) {}
  }

  private func normals(_ count: Int, _ random: inout SplitMix64) -> [Float] {
    (0..<count).map { _ in random.normal() }
  }

  func attentions(_ type: CacheType, headSize: Int) {
    var random = SplitMix64(seed: 700 + UInt64(headSize))
    let scalar = kernels.instructionSet == .scalar
    for count in Array(1...40) + stride(from: 41, through: 300, by: scalar ? 90 : 23) {
      attention(
        type, headSize: headSize, heads: 1 + count % 3, positions: [count], magnitude: 1,
        random: &random)
    }
    // Tokens before and after the end of a tile; every number of queries up to some blocks.
    for heads in 1...(scalar ? 2 : 13) {
      for last in [3, 33, 258, 513] where !scalar || last < 300 {
        attention(
          type, headSize: headSize, heads: heads, positions: [last - 2, last - 1, last],
          magnitude: 1, random: &random)
      }
    }
    // Weights that vanish, infinite scores and undefined ones.
    for magnitude: Float in [1e4, 1e38, .infinity, .nan] {
      for count in [1, 20, 300] {
        attention(
          type, headSize: headSize, heads: 2, positions: [count], magnitude: magnitude,
          random: &random)
      }
    }
  }

  /// The bytes that keys and values leave in a tile.
  func entering(_ type: CacheType) {
    var random = SplitMix64(seed: 800)
    let special: [Float] = [
      0, -0.0, 65504, 65519.99, -65519.99, 0x1p-14, 0x1.ffcp-15, 0x1p-24, 0x1p-25, 0x1.000002p-25,
      -0x1.8p-24, 0x1p-40, 0x1p-130, -0x1p-149, 1.0009765, 1.0004883, 1.0014648, 0x1p-101,
      0x1p-100, 65520, -65520, 1e30, .infinity, -.infinity, .nan,
    ]
    for size in [1, 15, 16, 20, 33, 64] {
      let width = (size + 15) / 16 * 16
      let (actual, expected) = (
        GuardedTile(type, headSize: width), GuardedTile(type, headSize: width)
      )
      for position in 0..<AttentionTile.positions {
        let head = {
          (0..<size).map { _ in
            let value =
              random.normal() * Float(sign: .plus, exponent: position % 40 - 32, significand: 1)
            // One of a hundred is too large, or no number.
            let last = random.next() % 4 == 0 ? special.count : special.count - 6
            return position % 3 == 0 ? special[Int(random.next() % UInt64(last))] : value
          }
        }
        let (key, value) = (head(), head())
        let (left, right) = (GuardedMemory(key), GuardedMemory(value))
        let fits = kernels.enter(
          key: left.floats, value: right.floats, size: size, position: position, tile: actual.tile)
        #expect(
          fits
            == Reference.enter(
              key: key, value: value, size: size, position: position, tile: expected.tile))
        if !fits {
          // What it left is not specified.
          for d in 0..<width {
            for (place, from) in [
              (actual.tile.keys, expected.tile.keys), (actual.tile.values, expected.tile.values),
            ] {
              let index =
                from == expected.tile.keys
                ? expected.tile.keyIndex(position, d) : expected.tile.valueIndex(position, d)
              let bytes = type.elementByteCount
              (place + index * bytes).copyMemory(from: from + index * bytes, byteCount: bytes)
            }
          }
        }
      }
      #expect(
        actual.memory.bytes.elementsEqual(expected.memory.bytes), "\(type), head size \(size)")
    }
  }
}
