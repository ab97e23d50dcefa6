internal import Synchronization
import TensorCore

/// An open slab: its descriptor for checked reads and its mapping for weights used in place.
final class SlabFile: @unchecked Sendable {  // immutable; the mapping is read only
  let path: String
  let status: SystemCalls.Status
  /// The whole file. If another program shortens it in place, touching what is gone ends this
  /// process: files are replaced by rename, never rewritten.
  let mapping: UnsafeRawBufferPointer
  private let descriptor: Int32

  init(path: String) throws(SlabError) {
    do throws(FileError) {
      self.path = path
      (descriptor, status) = try SystemCalls.openForReading(path)
      do throws(FileError) {
        mapping =
          status.byteCount == 0
          ? UnsafeRawBufferPointer(start: nil, count: 0)
          : try SystemCalls.map(descriptor, byteCount: status.byteCount, path)
      } catch {
        SystemCalls.close(descriptor)
        throw error
      }
    } catch {
      throw SlabError(error)
    }
  }

  deinit {
    if !mapping.isEmpty { SystemCalls.unmap(mapping) }
    SystemCalls.close(descriptor)
  }

  /// Fills `buffer` from `offset` on.
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(SlabError) {
    do throws(FileError) {
      try SystemCalls.read(descriptor, into: buffer, at: offset, path)
    } catch {
      throw SlabError(error)
    }
  }

  /// The bytes of `range`, which the caller has checked to lie in the file and to be few.
  func bytes(_ range: Range<Int>) throws(SlabError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: range.count)
    try bytes.withUnsafeMutableBufferPointer { buffer throws(SlabError) in
      try read(into: UnsafeMutableRawBufferPointer(buffer), at: range.lowerBound)
    }
    return bytes
  }

  /// Reads and checks the logical bytes of a stream or asset: the digests of stored frames before
  /// they are decompressed, those of logical frames after.
  ///
  /// Frames are read by all threads of the pool; the error is that of the first bad one.
  /// - Parameters:
  ///   - width: bytes of an element.
  ///   - destination: exactly the logical bytes.
  func decode(
    _ bytes: StoredBytes, name: String, stream: StreamKind?, width: Int,
    into destination: UnsafeMutableRawBufferPointer, pool: WorkerPool
  ) throws(SlabError) {
    precondition(destination.count == bytes.logicalByteCount)
    let ranges = bytes.frameRanges
    let first = Mutex<SlabError?>(nil)
    nonisolated(unsafe) let destination = destination
    pool.parallelFor(ranges.count) { index in
      let logical = SlabFormat.frameRange(index, of: bytes.logicalByteCount)
      do throws(SlabError) {
        try decodeFrame(
          bytes.frames[index], codec: bytes.codec, at: ranges[index], width: width,
          into: UnsafeMutableRawBufferPointer(rebasing: destination[logical]))
      } catch {
        var error = error
        (error.name, error.stream, error.frame) = (name, stream, index)
        error.byteRange = ranges[index]
        first.withLock { if $0 == nil || $0!.frame! > index { $0 = error } }
      }
    }
    if let error = first.withLock({ $0 }) { throw error }
  }

  private func decodeFrame(
    _ frame: StoredFrame, codec: SlabCodec, at range: Range<Int>, width: Int,
    into destination: UnsafeMutableRawBufferPointer
  ) throws(SlabError) {
    if let storedDigest = frame.storedDigest {
      let stored = try bytes(range)
      guard Digest(of: stored) == storedDigest else {
        throw SlabError(.damaged, path: path, "stored bytes do not match their digest")
      }
      let fault = stored.withUnsafeBytes {
        FrameCoding.decompress($0, width: codec == .zstdPlanes ? width : 1, into: destination)
      }
      if let fault { throw SlabError(.malformed, path: path, fault) }
    } else {
      try read(into: destination, at: range.lowerBound)
    }
    guard SlabDigests.frame(UnsafeRawBufferPointer(destination)) == frame.digest else {
      throw SlabError(
        codec == .raw ? .damaged : .malformed, path: path, "the bytes do not match their digest")
    }
  }
}
