internal import Synchronization
import TensorCore

/// One frame on its way from a slab into memory.
struct FrameRead {
  let frame: StoredFrame
  let codec: SlabCodec
  /// Where its stored bytes are in the file.
  let range: Range<Int>
  /// Bytes of an element.
  let width: Int
  /// Exactly the logical bytes.
  let destination: UnsafeMutableRawBufferPointer
  // What errors call it:
  let name: String
  let stream: StreamKind?
  let index: Int

  /// The frames of a stream or asset.
  ///
  /// - Parameter destination: memory for exactly the logical bytes.
  static func frames(
    of bytes: StoredBytes, name: String, stream: StreamKind?, width: Int,
    into destination: UnsafeMutableRawBufferPointer
  ) -> [FrameRead] {
    precondition(destination.count == bytes.logicalByteCount)
    let ranges = bytes.frameRanges
    return bytes.frames.indices.map { index in
      let logical = SlabFormat.frameRange(index, of: bytes.logicalByteCount)
      return FrameRead(
        frame: bytes.frames[index], codec: bytes.codec, range: ranges[index], width: width,
        destination: UnsafeMutableRawBufferPointer(rebasing: destination[logical]), name: name,
        stream: stream, index: index)
    }
  }
}

/// Which digests of a frame are compared.
enum FrameCheck {
  /// None: raw weights, as they would be used where they are mapped.
  case nothing
  /// One that covers every bit read: that of the stored bytes before they are decompressed, or that
  /// of raw bytes.
  case everyBit
  /// That of the stored bytes, and that of the logical bytes, which the root digest stands for.
  case everyDigest
}

/// Reads frames one after another, with scratch memory that it keeps; each thread has its own.
final class FrameReader {
  private let file: SlabFile
  private let check: FrameCheck
  private let zstd = ZstdDecompressor()
  private let stored = Scratch()
  private let planes = Scratch()

  init(_ file: SlabFile, check: FrameCheck) {
    self.file = file
    self.check = check
  }

  func read(_ read: FrameRead) throws(SlabError) {
    if let storedDigest = read.frame.storedDigest {
      try decompress(read, storedDigest)
      if check != .everyDigest { return }
    } else {
      try file.read(into: read.destination, at: read.range.lowerBound)
      if check == .nothing { return }
    }
    guard SlabDigests.frame(UnsafeRawBufferPointer(read.destination)) == read.frame.digest else {
      throw SlabError(
        read.codec == .raw ? .damaged : .malformed, path: file.path,
        "the bytes do not match their digest")
    }
  }

  private func decompress(_ read: FrameRead, _ storedDigest: Digest) throws(SlabError) {
    let stored = stored.memory(read.range.count)
    try file.read(into: stored, at: read.range.lowerBound)
    guard Digest(of: UnsafeRawBufferPointer(stored)) == storedDigest else {
      throw SlabError(.damaged, path: file.path, "stored bytes do not match their digest")
    }
    let isSplit = read.codec == .zstdPlanes && read.width > 1
    let content = isSplit ? planes.memory(read.destination.count) : read.destination
    if let fault = zstd.decompress(UnsafeRawBufferPointer(stored), into: content) {
      throw SlabError(.malformed, path: file.path, fault)
    }
    if isSplit {
      FrameCoding.joinPlanes(
        UnsafeRawBufferPointer(content), width: read.width, into: read.destination)
    }
  }
}

/// Memory that grows to the most that was asked for.
private final class Scratch {
  private var buffer = UnsafeMutableRawBufferPointer(start: nil, count: 0)

  deinit { buffer.deallocate() }

  func memory(_ byteCount: Int) -> UnsafeMutableRawBufferPointer {
    if buffer.count < byteCount {
      buffer.deallocate()
      buffer = .allocate(byteCount: byteCount, alignment: 64)
    }
    return UnsafeMutableRawBufferPointer(rebasing: buffer[..<byteCount])
  }
}

extension SlabFile {
  /// Reads frames with all threads of the pool; the error is that of the first bad one.
  ///
  /// - Parameter progress: called now and then on the caller's thread, with the logical bytes that
  ///   are in memory and those of all.
  func load(
    _ reads: [FrameRead], check: FrameCheck, pool: WorkerPool,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(SlabError) {
    let readers = (0..<pool.threadCount).map { _ in FrameReader(self, check: check) }
    let total = reads.reduce(0) { $0 + $1.destination.count }
    var done = 0
    // Runs long enough for threads not to wait for each other, short enough for a lively display.
    let runLength = 32 * readers.count
    for start in stride(from: 0, to: reads.count, by: runLength) {
      let run = reads[start..<min(start + runLength, reads.count)]
      try load(run, readers: readers, pool: pool)
      done += run.reduce(0) { $0 + $1.destination.count }
      progress(done, total)
    }
  }

  private func load(
    _ reads: ArraySlice<FrameRead>, readers: [FrameReader], pool: WorkerPool
  ) throws(SlabError) {
    let next = Atomic(reads.startIndex)
    let first = Mutex<(place: Int, error: SlabError)?>(nil)
    pool.parallelFor(min(readers.count, reads.count)) { worker in
      while true {
        let place = next.add(1, ordering: .relaxed).oldValue
        if place >= reads.endIndex { return }
        let read = reads[place]
        do throws(SlabError) {
          try readers[worker].read(read)
        } catch {
          var error = error
          (error.name, error.stream, error.frame) = (read.name, read.stream, read.index)
          error.byteRange = read.range
          first.withLock { if $0 == nil || $0!.place > place { $0 = (place, error) } }
        }
      }
    }
    if let (_, error) = first.withLock({ $0 }) { throw error }
  }
}
