internal import Synchronization
import TensorCore

/// What an interrupted writer had done.
public struct Resumption: Sendable {
  /// What the caller called it: "12 of 40 layers".
  public let summary: String
  /// What the caller stored with it.
  public let payload: [UInt8]
  /// What the file holds already, in its order; digests of tensors are not known yet.
  public let tensors: [SlabTensor]
}

extension SlabWriter {
  /// Makes everything that was appended so far outlive this process, together with what the caller
  /// needs to go on behind it.
  ///
  /// That happens beside the work that follows: the step counts once everything is on the disk, and
  /// if it fails, the next call or ``finish()`` says so.
  ///
  /// - Parameters:
  ///   - summary: how far the work is, for people: "12 of 40 layers".
  ///   - payload: at most 2^30 bytes.
  /// - Precondition: the writer has a fingerprint.
  /// - Throws: ``SlabError`` of this or an earlier step; the writer is then ended.
  public func recordStep(_ summary: String, payload: [UInt8]) throws(SlabError) {
    do throws(SlabError) {
      guard isOpen else { throw invalid(nil, "the writer is finished or cancelled") }
      guard SlabFormat.isName(summary), payload.count <= SlabJournal.maximumPayloadByteCount else {
        throw invalid(nil, "summary or payload of a step is too long")
      }
      try awaitJournal()
      let journal = SlabJournal(
        fingerprint: fingerprint!, summary: summary, index: index, scaleDigests: scaleDigests,
        payload: payload)
      let file = file
      pending = (
        summary,
        BackgroundTask {
          do throws(SlabError) {
            try file.write(journal)
            return nil
          } catch {
            return error
          }
        }
      )
    } catch {
      throw abandoned(error)
    }
  }

  /// Ends without a slab and keeps the recorded steps for another writer; what was not recorded is
  /// lost. Removes everything where there is no such step.
  public func suspend() {
    isOpen = false
    try? awaitJournal()
    file.close()
  }

  /// Waits until the last recorded step is on the disk.
  func awaitJournal() throws(SlabError) {
    guard let (summary, task) = pending else { return }
    pending = nil
    if let error = task.wait() { throw error }
    recorded = summary
    file.fate = .kept
  }

  /// Ends the writer because of an error: keeps the recorded steps where another run can go on.
  /// - Returns: the error, with what is kept.
  func abandoned(_ error: SlabError) -> SlabError {
    guard error.isPassing else {
      cancel()
      return error
    }
    suspend()
    var error = error
    error.kept = recorded
    return error
  }

  /// Finds out what an earlier writer left, and goes on behind it.
  /// - Returns: nil where there is nothing to go on behind.
  /// - Throws: ``SlabError`` where it cannot be used; everything stays as it is.
  func resume(restarting: Bool) throws(SlabError) -> Resumption? {
    let end = try file.byteCount()
    // An empty file was just created: a journal has outlived what it belonged to.
    let isDiscarded = restarting || end == 0
    let journal: SlabJournal?
    do throws(SlabError) {
      journal = try SlabJournal.read(target: file.target, end: end)
    } catch {
      guard isDiscarded && error.reason == .journalDamaged else { throw error }
      journal = nil
    }
    guard let journal, !isDiscarded else {
      try file.restart()
      return nil
    }
    if let difference = fingerprint!.difference(from: journal.fingerprint) {
      throw SlabError(
        .otherJob, path: file.path,
        "a conversion was interrupted here, with \(journal.summary) done, but \(difference)")
    }
    do throws(SlabError) {
      try restore(journal, fileByteCount: end)
      try file.resume(at: placement.end)
    } catch {
      var error = error
      if error.isPassing { error.kept = journal.summary }
      throw error
    }
    recorded = journal.summary
    return Resumption(
      summary: journal.summary, payload: journal.payload,
      tensors: index.tensors)
  }

  /// Takes over the state of a journal, if the file holds what it says.
  private func restore(_ journal: SlabJournal, fileByteCount: Int) throws(SlabError) {
    var placement = Placement()
    for tensor in journal.index.fileOrder {
      for position in tensor.streams.indices {
        let offset =
          position == 0 ? placement.startTensor(layout: tensor.layout) : placement.nextStream()
        let bytes = tensor.streams[position].bytes
        guard bytes.offset == offset, bytes.storedByteCount <= fileByteCount - offset else {
          throw damaged(tensor.name, "it is not where it was written")
        }
        placement.advance(to: offset + bytes.storedByteCount)
      }
    }
    guard journal.index.profile == index.profile, journal.index.assets.isEmpty else {
      throw damaged(nil, "the journal is not this writer's")
    }
    try verify(journal.index.fileOrder)
    index.tensors = journal.index.fileOrder
    self.placement = placement
    names = Set(index.tensors.map { Array($0.name.utf8) })
    scaleDigests = journal.scaleDigests
  }

  /// Reads everything that is kept and compares it with its digests: what a disk lost with the power,
  /// or another program changed, must not be built upon.
  private func verify(_ tensors: [SlabTensor]) throws(SlabError) {
    for tensor in tensors {
      for stream in tensor.streams {
        let ranges = stream.bytes.frameRanges
        let fault = Mutex<SlabError?>(nil)
        pool.parallelFor(ranges.count) { place in
          if cancellation.isRequested { return }
          let frame = stream.bytes.frames[place]
          let error = FrameCoding.withScratch(ranges[place].count) { memory -> SlabError? in
            do throws(SlabError) {
              try file.read(into: memory, at: ranges[place].lowerBound)
            } catch {
              return error
            }
            let bytes = UnsafeRawBufferPointer(memory)
            let isRight =
              frame.storedDigest.map { $0 == Digest(of: bytes) }
              ?? (frame.digest == SlabDigests.frame(bytes))
            return isRight
              ? nil : damaged(tensor.name, "it does not match its digest")
          }
          if let error { fault.withLock { $0 = error } }
        }
        if let error = fault.withLock({ $0 }) { throw error }
        if cancellation.isRequested {
          throw SlabError(.cancelled, path: file.target, "cancelled")
        }
      }
    }
  }

  private func damaged(_ name: String?, _ message: String) -> SlabError {
    SlabError(.journalDamaged, path: file.path, name: name, message)
  }
}

extension SlabError {
  /// Whether the same work can succeed another time.
  fileprivate var isPassing: Bool {
    switch reason {
    case .system, .insufficientSpace, .cancelled, .outputExists, .busy: true
    default: false
    }
  }
}
