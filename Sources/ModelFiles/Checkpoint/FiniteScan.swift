import TensorCore

/// Looks for NaN and infinities by their exponents: integer arithmetic on whole vectors.
struct FiniteScan {
  private let bytes: UnsafeRawBufferPointer
  private let elementType: ElementType
  /// Elements whose bits, without the sign, are not below this are refused.
  private let limit: UInt32
  private static let chunk = 1 << 16

  init(
    _ bytes: UnsafeRawBufferPointer, elementType: ElementType, roundingTo target: ElementType?
  ) {
    self.bytes = bytes
    self.elementType = elementType
    limit =
      switch (elementType, target) {
      case (.f32, .bf16): 0x7F7F_8000  // from here on, float32 rounds to infinity
      case (.f32, _): 0x7F80_0000
      case (.bf16, _): 0x7F80
      case (.f16, _): 0x7C00
      }
  }

  /// Flat index and value of the first element that fails.
  func firstFailure(pool: WorkerPool) -> (index: Int, value: Float)? {
    let count = bytes.count / elementType.byteCount
    let chunkCount = (count + Self.chunk - 1) / Self.chunk
    var failed = [Bool](repeating: false, count: chunkCount)
    failed.withUnsafeMutableBufferPointer { failed in
      guard let base = failed.baseAddress else { return }
      let failed = SharedPointer(base)
      pool.parallelFor(chunkCount) { failed.pointer[$0] = fails(range($0, count)) }
    }
    guard let chunk = failed.firstIndex(of: true) else { return nil }
    for index in range(chunk, count) where magnitude(index) >= limit {
      return (index, value(index))
    }
    return nil
  }

  private func range(_ chunk: Int, _ count: Int) -> Range<Int> {
    chunk * Self.chunk..<min(count, (chunk + 1) * Self.chunk)
  }

  /// Adding what lacks to the sign bit carries into it for exactly the elements that fail.
  private func fails(_ range: Range<Int>) -> Bool {
    guard let base = bytes.baseAddress else { return false }
    if elementType == .f32 {
      let addend = 0x8000_0000 - limit
      var carried: UInt32 = 0
      for index in range {
        carried |=
          (base.loadUnaligned(fromByteOffset: index &* 4, as: UInt32.self) & 0x7FFF_FFFF) &+ addend
      }
      return carried & 0x8000_0000 != 0
    }
    let addend = UInt16(0x8000 - limit)
    var carried: UInt16 = 0
    for index in range {
      carried |=
        (base.loadUnaligned(fromByteOffset: index &* 2, as: UInt16.self) & 0x7FFF) &+ addend
    }
    return carried & 0x8000 != 0
  }

  private func magnitude(_ index: Int) -> UInt32 {
    elementType == .f32
      ? bytes.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self) & 0x7FFF_FFFF
      : UInt32(bytes.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self) & 0x7FFF)
  }

  private func value(_ index: Int) -> Float {
    let bits = { bytes.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self) }
    return switch elementType {
    case .f32: bytes.loadUnaligned(fromByteOffset: index * 4, as: Float.self)
    case .f16: Float(float16Bits: bits())
    case .bf16: Float(bfloat16Bits: bits())
    }
  }
}
