internal import CZstd

/// Single zstd frames as slabs hold them: content size present, window equal to the content, no
/// checksum, no dictionary (formats/slab.md, section 6).
enum Zstd {
  /// The best level for weights, and the fastest: all the gain is entropy coding. Higher levels find
  /// matches where there are none (bf16 in planes: .684 at level 1, .709 at 3, .697 at 15).
  static let level: Int32 = 1

  /// Version of the library in use, as in "1.5.4".
  static var version: String { String(cString: ZSTD_versionString()) }

  /// `source` as one frame. The same bytes for the same library version.
  static func compress(_ source: UnsafeRawBufferPointer) -> [UInt8] {
    guard let context = ZSTD_createCCtx() else { fatalError("out of memory in zstd") }
    defer { ZSTD_freeCCtx(context) }
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level)
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 1)
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 0)
    // A window of a whole frame, so that the frame is one segment; low levels would take less.
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, 20)
    let capacity = ZSTD_compressBound(source.count)
    return [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
      count = ZSTD_compress2(
        context, buffer.baseAddress, capacity, source.baseAddress, source.count)
      // The bound is enough by the library's contract, so that only memory can run out.
      guard ZSTD_isError(count) == 0 else { fatalError(String(cString: ZSTD_getErrorName(count))) }
    }
  }
}

/// Decompresses one frame after another, with memory that it keeps.
struct ZstdDecompressor: ~Copyable {
  private let context: OpaquePointer?

  init() { context = ZSTD_createDCtx() }

  deinit { ZSTD_freeDCtx(context) }

  /// Fills `destination` from the one frame that `source` must be; never writes more than that.
  /// - Returns: nil, or what is wrong with the frame.
  func decompress(
    _ source: UnsafeRawBufferPointer, into destination: UnsafeMutableRawBufferPointer
  ) -> String? {
    // Magic number, then a descriptor: single segment (the window is the content), no checksum, no
    // dictionary, reserved bits zero; its two upper bits say how long the content size is.
    guard source.count >= 5, source.loadUnaligned(as: UInt32.self).littleEndian == 0xFD2F_B528,
      source[4] & 0x3F == 0x20
    else { return "not a zstd frame of the kind that slabs hold" }
    let content = ZSTD_getFrameContentSize(source.baseAddress, source.count)
    guard content == UInt64(destination.count) else {
      return "a zstd frame of another content size than \(destination.count) bytes"
    }
    guard ZSTD_findFrameCompressedSize(source.baseAddress, source.count) == source.count else {
      return "bytes that are not exactly one zstd frame"
    }
    guard let context else { return "no memory to decompress" }
    let count = ZSTD_decompressDCtx(
      context, destination.baseAddress, destination.count, source.baseAddress, source.count)
    if ZSTD_isError(count) != 0 { return "zstd: \(String(cString: ZSTD_getErrorName(count)))" }
    return count == destination.count ? nil : "a zstd frame that ends early"
  }
}
