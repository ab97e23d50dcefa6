import Glibc
internal import Synchronization
import TensorCore

/// SHA-256 of all files of a checkpoint, computed on a thread of its own by reading them once more,
/// front to back: `sha256sum` says the same.
public final class SourceHashing {
  private typealias Outcome = Result<[Digest], FileError>

  private let names: [String]
  private let isStopped: Flag
  private let isDone: Flag
  private let task: BackgroundTask<Outcome>

  private final class Flag: Sendable {
    let value = Atomic(false)
  }

  /// Bytes that are read at a time.
  private static let pieceByteCount = 1 << 20

  /// Starts.
  public init(_ checkpoint: Checkpoint) {
    let paths = checkpoint.files
    let isStopped = Flag()
    let isDone = Flag()
    names = paths.map(\.lastPathComponent)
    self.isStopped = isStopped
    self.isDone = isDone
    task = BackgroundTask {
      defer { isDone.value.store(true, ordering: .relaxed) }
      return Result { () throws(FileError) in
        var digests: [Digest] = []
        for path in paths { digests.append(try Self.hash(path, isStopped)) }
        return digests
      }
    }
  }

  /// Ends the work early where nobody has waited for it.
  deinit { isStopped.value.store(true, ordering: .relaxed) }

  /// Waits for the end of the work, or until the caller would rather not.
  ///
  /// - Parameter isCancelled: asked many times a second.
  /// - Returns: whether ``lines()`` would return at once.
  public func wait(unless isCancelled: () -> Bool) -> Bool {
    while !isDone.value.load(ordering: .relaxed) {
      if isCancelled() { return false }
      usleep(10_000)
    }
    return true
  }

  /// Waits for the end.
  ///
  /// - Returns: the names of the files and their digests, a line `DIGEST  NAME` for each, in the order
  ///   of ``Checkpoint/files``.
  /// - Throws: ``CheckpointError`` if a file cannot be read.
  public func lines() throws(CheckpointError) -> String {
    switch task.wait() {
    case .success(let digests): return Self.lines(names, digests)
    case .failure(let error): throw CheckpointError(error)
    }
  }

  /// As long as ``lines()`` will be.
  public static func placeholder(for checkpoint: Checkpoint) -> String {
    lines(
      checkpoint.files.map(\.lastPathComponent), checkpoint.files.map { _ in Digest.zero })
  }

  private static func lines(_ names: [String], _ digests: [Digest]) -> String {
    zip(digests, names).map { "\($0)  \($1)" }.joined(separator: "\n")
  }

  private static func hash(_ path: String, _ isStopped: Flag) throws(FileError) -> Digest {
    let (descriptor, status) = try SystemCalls.openForReading(path)
    defer { SystemCalls.close(descriptor) }
    let buffer = AlignedBuffer(byteCount: pieceByteCount)
    var hasher = Hasher256()
    var offset = 0
    while offset < status.byteCount, !isStopped.value.load(ordering: .relaxed) {
      let piece = UnsafeMutableRawBufferPointer(
        start: buffer.base, count: min(pieceByteCount, status.byteCount - offset))
      try SystemCalls.read(descriptor, into: piece, at: offset, path)
      hasher.update(UnsafeRawBufferPointer(piece))
      offset += piece.count
    }
    return hasher.finish()
  }
}
