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

  /// Brings a range of the mapping into memory and into this process's page tables, read by all
  /// threads of the pool at once: that is faster than faulting page after page, from the disk and
  /// from the page cache. Does nothing for a file that memory cannot hold.
  ///
  /// - Throws: ``SlabError`` if the file became shorter or cannot be read.
  func readAhead(
    _ range: Range<Int>, pool: WorkerPool, progress: (_ done: Int, _ total: Int) -> Void
  ) throws(SlabError) {
    if range.count > SystemCalls.physicalByteCount { return }
    let pieceByteCount = 4 << 20
    let start = range.lowerBound / SystemCalls.pageSize * SystemCalls.pageSize
    let total = range.upperBound - start
    let runByteCount = 16 * pool.threadCount * pieceByteCount
    for run in stride(from: 0, to: total, by: runByteCount) {
      let end = min(run + runByteCount, total)
      let fault = Mutex<FileError?>(nil)
      pool.parallelFor((end - run + pieceByteCount - 1) / pieceByteCount) { index in
        let first = run + index * pieceByteCount
        let piece = mapping[(start + first)..<start + min(first + pieceByteCount, end)]
        do throws(FileError) {
          try SystemCalls.populate(UnsafeRawBufferPointer(rebasing: piece), path)
        } catch {
          fault.withLock { $0 = error }
        }
      }
      if let error = fault.withLock({ $0 }) { throw SlabError(error) }
      progress(end, total)
    }
  }
}
