import TensorCore

/// The journal of work for an output that does not write it yet, such as a first pass over the weights:
/// what was found outlives the process, a power cut and a full disk.
///
/// As with a ``SlabWriter``, `PATH.partial` is locked against other processes, here an empty file, and
/// `PATH.journal` is replaced as a whole, once the next one is on the disk.
public final class PassJournal {
  private let file: PartialFile
  private let fingerprint: Fingerprint
  /// What an interrupted run with the same fingerprint recorded last: how far it was, and its payload.
  public let resumption: (summary: String, payload: [UInt8])?
  /// Of the journal.
  public let path: String
  /// How far the work that is kept is.
  public private(set) var recorded: String?

  /// The name of the journal's file.
  public static func journalPath(of path: String) -> String { SlabJournal.path(of: path) }

  /// Opens and locks.
  ///
  /// - Parameters:
  ///   - inputs: files that these must not be.
  ///   - restarting: whether what an interrupted run did is discarded.
  /// - Throws: ``SlabError``, also where another process is at work, or what an interrupted run left is
  ///   about something else.
  public init(
    path: String, fingerprint: Fingerprint, inputs: [String], restarting: Bool
  ) throws(SlabError) {
    self.fingerprint = fingerprint
    self.path = Self.journalPath(of: path)
    file = try PartialFile(target: path, replacing: true, inputs: inputs, hasJournal: true)
    var journal: SlabJournal?
    do throws(SlabError) {
      journal = try SlabJournal.read(target: path, end: SlabFormat.superblockByteCount)
    } catch {
      guard restarting && error.reason == .journalDamaged else { throw error }
    }
    guard let journal, !restarting else {
      resumption = nil
      try file.restart()
      return
    }
    if let difference = fingerprint.difference(from: journal.fingerprint) {
      throw SlabError(
        .otherJob, path: Self.journalPath(of: path),
        "encodings were being chosen here, with \(journal.summary) measured, but \(difference)")
    }
    resumption = (journal.summary, journal.payload)
    recorded = journal.summary
    file.fate = .kept
  }

  /// Replaces what is kept; returns when it is on the disk.
  ///
  /// - Parameters:
  ///   - summary: how far the work is, for people.
  ///   - payload: at most 2^30 bytes.
  /// - Throws: ``SlabError``, which says what stays kept.
  public func record(_ summary: String, payload: [UInt8]) throws(SlabError) {
    precondition(payload.count <= SlabJournal.maximumPayloadByteCount)
    let index = SlabIndex(profile: .run, metadata: [:], assets: [], tensors: [])
    do throws(SlabError) {
      try file.write(
        SlabJournal(
          fingerprint: fingerprint, summary: summary, index: index, scaleDigests: [],
          payload: payload))
    } catch {
      var error = error
      error.kept = recorded
      throw error
    }
    file.fate = .kept
    recorded = summary
  }

  /// The work is done, or worth nothing: nothing stays.
  public func remove() {
    file.fate = .removed
    file.close()
  }
}
