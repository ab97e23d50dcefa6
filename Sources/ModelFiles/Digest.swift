internal import CCrypto

/// A SHA-256 digest.
public struct Digest: Hashable, Sendable, CustomStringConvertible {
  /// Bytes of a digest in a file.
  static let byteCount = 32

  let value: SIMD32<UInt8>

  /// Thirty-two zero bytes: no digest yet.
  static let zero = Digest(SIMD32<UInt8>(repeating: 0))

  private init(_ value: SIMD32<UInt8>) { self.value = value }

  /// - Precondition: `bytes` holds 32 bytes.
  init(_ bytes: UnsafeRawBufferPointer) {
    precondition(bytes.count == Self.byteCount)
    value = bytes.loadUnaligned(as: SIMD32<UInt8>.self)
  }

  /// SHA-256 of `bytes`.
  public init(of bytes: UnsafeRawBufferPointer) {
    var hasher = Hasher256()
    hasher.update(bytes)
    self = hasher.finish()
  }

  /// SHA-256 of `bytes`.
  public init(of bytes: [UInt8]) {
    self = bytes.withUnsafeBytes { Digest(of: $0) }
  }

  /// The 32 bytes in order.
  public var bytes: [UInt8] { (0..<Self.byteCount).map { value[$0] } }

  /// 64 lower-case hexadecimal digits.
  public var description: String {
    String(
      decoding: bytes.flatMap { [Self.digits[Int($0 >> 4)], Self.digits[Int($0 & 15)]] },
      as: UTF8.self)
  }

  private static let digits = Array("0123456789abcdef".utf8)
}

/// SHA-256 of pieces, one after the other. libcrypto picks the instructions of the processor.
struct Hasher256: ~Copyable {
  private let context: OpaquePointer

  init() {
    // Fails only without memory, or where SHA-256 is forbidden; there is no going on then.
    guard let context = EVP_MD_CTX_new(), EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1 else {
      fatalError("libcrypto offers no SHA-256")
    }
    self.context = context
  }

  deinit { EVP_MD_CTX_free(context) }

  mutating func update(_ bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress else { return }
    EVP_DigestUpdate(context, base, bytes.count)
  }

  mutating func finish() -> Digest {
    withUnsafeTemporaryAllocation(byteCount: Digest.byteCount, alignment: 32) { buffer in
      EVP_DigestFinal_ex(context, buffer.baseAddress!.assumingMemoryBound(to: UInt8.self), nil)
      return Digest(UnsafeRawBufferPointer(buffer))
    }
  }
}
