import TensorCore

/// Frames to stored bytes (formats/slab.md, section 6); ``FrameReader`` goes the other way.
enum FrameCoding {
  /// Regroups elements of 2 or 4 bytes: all first bytes, then all second ones and so on.
  static func splitPlanes(
    _ source: UnsafeRawBufferPointer, width: Int, into destination: UnsafeMutableRawBufferPointer
  ) {
    precondition(source.count == destination.count && source.count % width == 0)
    let count = source.count / width
    // Whole elements at a time, so that the loops vectorise.
    if width == 2 {
      for index in 0..<count {
        let element = source.loadUnaligned(fromByteOffset: 2 &* index, as: UInt16.self).littleEndian
        destination[index] = UInt8(truncatingIfNeeded: element)
        destination[count &+ index] = UInt8(truncatingIfNeeded: element &>> 8)
      }
    } else {
      precondition(width == 4)
      for index in 0..<count {
        let element = source.loadUnaligned(fromByteOffset: 4 &* index, as: UInt32.self).littleEndian
        destination[index] = UInt8(truncatingIfNeeded: element)
        destination[count &+ index] = UInt8(truncatingIfNeeded: element &>> 8)
        destination[2 &* count &+ index] = UInt8(truncatingIfNeeded: element &>> 16)
        destination[3 &* count &+ index] = UInt8(truncatingIfNeeded: element &>> 24)
      }
    }
  }

  /// The inverse of ``splitPlanes(_:width:into:)``.
  static func joinPlanes(
    _ source: UnsafeRawBufferPointer, width: Int, into destination: UnsafeMutableRawBufferPointer
  ) {
    precondition(source.count == destination.count && source.count % width == 0)
    let count = source.count / width
    if width == 2 {
      for index in 0..<count {
        let element = UInt16(source[index]) | UInt16(source[count &+ index]) &<< 8
        destination.storeBytes(
          of: element.littleEndian, toByteOffset: 2 &* index, as: UInt16.self)
      }
    } else {
      precondition(width == 4)
      for index in 0..<count {
        let low = UInt32(source[index]) | UInt32(source[count &+ index]) &<< 8
        let high =
          UInt32(source[2 &* count &+ index]) | UInt32(source[3 &* count &+ index]) &<< 8
        destination.storeBytes(
          of: (low | high &<< 16).littleEndian, toByteOffset: 4 &* index, as: UInt32.self)
      }
    }
  }

  /// One frame, compressed.
  static func compress(_ frame: UnsafeRawBufferPointer, width: Int) -> [UInt8] {
    guard width > 1 else { return Zstd.compress(frame) }
    return withScratch(frame.count) { planes in
      splitPlanes(frame, width: width, into: planes)
      return Zstd.compress(UnsafeRawBufferPointer(planes))
    }
  }

  /// Calls `body` with memory for one frame.
  static func withScratch<R>(_ count: Int, _ body: (UnsafeMutableRawBufferPointer) -> R) -> R {
    let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
    defer { scratch.deallocate() }
    return body(scratch)
  }
}

/// A stream or asset ready for the file.
struct EncodedBytes {
  var codec: SlabCodec
  var frames: [StoredFrame]
  /// The compressed frames; empty where the codec is raw and the logical bytes are stored.
  var compressed: [[UInt8]]

  /// Digests the frames of `logical`, and compresses them if asked and if that saves at least 3 %.
  ///
  /// - Parameters:
  ///   - width: bytes of an element.
  ///   - cancellation: once requested, frames may stay empty.
  init(
    _ logical: UnsafeRawBufferPointer, width: Int, compressing: Bool, pool: WorkerPool,
    cancellation: Cancellation? = nil
  ) {
    let count = SlabFormat.frameCount(logical.count)
    let blank = StoredFrame(digest: .zero, storedByteCount: 0, storedDigest: nil)
    var frames = [StoredFrame](repeating: blank, count: count)
    var compressed = [[UInt8]](repeating: [], count: compressing ? count : 0)
    frames.withUnsafeMutableBufferPointer { frames in
      compressed.withUnsafeMutableBufferPointer { compressed in
        // Each index writes its own elements only.
        nonisolated(unsafe) let (frames, compressed) = (frames, compressed)
        nonisolated(unsafe) let logical = logical
        pool.parallelFor(count) { index in
          if cancellation?.isRequested == true { return }
          let frame = UnsafeRawBufferPointer(
            rebasing: logical[SlabFormat.frameRange(index, of: logical.count)])
          frames[index].digest = SlabDigests.frame(frame)
          frames[index].storedByteCount = frame.count
          if compressing { compressed[index] = FrameCoding.compress(frame, width: width) }
        }
      }
    }
    let storedByteCount = compressed.reduce(0) { $0 + $1.count }
    if compressing, count > 0, storedByteCount * 100 <= logical.count * 97 {
      for index in 0..<count {
        frames[index].storedByteCount = compressed[index].count
        frames[index].storedDigest = Digest(of: compressed[index])
      }
      self.codec = width > 1 ? .zstdPlanes : .zstd
      self.compressed = compressed
    } else {
      self.codec = .raw
      self.compressed = []
    }
    self.frames = frames
  }

  /// Bytes in the file.
  var storedByteCount: Int { frames.reduce(0) { $0 + $1.storedByteCount } }
}

extension EncodedBytes {
  /// Digest of these bytes as a stream, wherever they are stored.
  func streamDigest(_ kind: StreamKind, _ logicalByteCount: Int) -> Digest {
    SlabDigests.stream(
      kind,
      StoredBytes(
        codec: codec, offset: 0, storedByteCount: 0, logicalByteCount: logicalByteCount,
        frames: frames))
  }
}
