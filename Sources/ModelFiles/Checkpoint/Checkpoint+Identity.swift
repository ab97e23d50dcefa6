public import TensorCore

/// Whether a checkpoint is the one that it was.
extension Checkpoint {
  /// Looks at the files of weights again: whether each is the one that was opened, with its size and
  /// its time of modification. Costs next to nothing.
  ///
  /// - Throws: ``CheckpointError/Reason/changed``, ``CheckpointError/Reason/vanished``.
  public func checkUnchanged() throws(CheckpointError) {
    for file in weightFiles {
      let now: SystemCalls.Status?
      do throws(FileError) {
        now = try SystemCalls.status(at: file.path)
      } catch {
        throw CheckpointError(error)
      }
      guard let now else { throw CheckpointError(.vanished, in: file.path) }
      if let fault = file.status.difference(to: now) {
        throw CheckpointError(.changed, in: file.path, found: fault)
      }
    }
  }

  /// What identifies the checkpoint without reading its weights: of files of weights their sizes and
  /// times of modification, of the small files their digests.
  public var fingerprint: [Fingerprint.Component] {
    let small = assets.map { asset in
      Fingerprint.Component(asset.name, "sha256 \(Digest(of: asset.bytes))")
    }
    let weights = weightFiles.map { file in
      let (seconds, nanoseconds) = file.status.modificationTime.quotientAndRemainder(
        dividingBy: 1_000_000_000)
      let fraction = String(nanoseconds.magnitude)
      return Fingerprint.Component(
        file.path.lastPathComponent,
        "\(file.status.byteCount) bytes, modified "
          + "\(seconds).\(String(repeating: "0", count: 9 - fraction.count))\(fraction)")
    }
    return small + weights
  }

  /// A digest of the bytes of a tensor, computed by all threads of the pool: of the digests of its
  /// frames of 1 MiB.
  /// - Precondition: `tensor` is one of ``tensors``.
  public func digest(of tensor: TensorDescriptor, pool: WorkerPool) -> Digest {
    let bytes = bytes(of: tensor)
    var digests = [Digest](repeating: .zero, count: SlabFormat.frameCount(bytes.count))
    digests.withUnsafeMutableBufferPointer { digests in
      // Each index writes its own element only.
      nonisolated(unsafe) let (digests, bytes) = (digests, bytes)
      pool.parallelFor(digests.count) { index in
        digests[index] = Digest(
          of: UnsafeRawBufferPointer(
            rebasing: bytes[SlabFormat.frameRange(index, of: bytes.count)]))
      }
    }
    return Digest(of: digests.flatMap(\.bytes))
  }
}

extension SystemCalls.Status {
  /// How a file differs from what it was, for people; nil where it does not.
  fileprivate func difference(to now: SystemCalls.Status) -> String? {
    if !isSameFile(as: now) { return "another file of that name" }
    if now.byteCount != byteCount { return "\(now.byteCount) bytes instead of \(byteCount)" }
    if now.modificationTime != modificationTime { return "another time of modification" }
    return nil
  }
}
