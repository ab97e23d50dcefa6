/// Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
/// 2011): a counter-based generator. A draw depends on its key and counter alone, never on the draws
/// before it, so that the same seed gives the same text on every machine and however a sequence is
/// computed. `formats/numerics.md` has the specification.
enum Philox {
  /// The four words of block `counter` of the stream `key`.
  static func block(counter: SIMD4<UInt32>, key: SIMD2<UInt32>) -> SIMD4<UInt32> {
    var (counter, key) = (counter, key)
    for _ in 0..<10 {
      let a = UInt64(counter.x) * 0xD251_1F53
      let b = UInt64(counter.z) * 0xCD9E_8D57
      counter = SIMD4(
        UInt32(b >> 32) ^ counter.y ^ key.x, UInt32(truncatingIfNeeded: b),
        UInt32(a >> 32) ^ counter.w ^ key.y, UInt32(truncatingIfNeeded: a))
      key = SIMD2(key.x &+ 0x9E37_79B9, key.y &+ 0xBB67_AE85)
    }
    return counter
  }

  /// The draw in [0, 1), a multiple of 2⁻⁵³, that chooses the token at `position` (the number of
  /// tokens before it, prompt included) of completion `choice`.
  ///
  /// Key: the low and high word of the seed. Counter: low and high word of the position, choice, 0.
  /// The first two words of the block, second one high, are 64 bits; the upper 53 are the draw.
  static func draw(seed: UInt64, choice: UInt32, position: UInt64) -> Double {
    let block = block(
      counter: SIMD4(
        UInt32(truncatingIfNeeded: position), UInt32(truncatingIfNeeded: position >> 32), choice,
        0),
      key: SIMD2(UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32)))
    return Double((UInt64(block.y) << 32 | UInt64(block.x)) >> 11) * 0x1p-53
  }
}
