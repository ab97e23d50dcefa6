import TensorCore

extension SlabWriter {
  /// The slab that an earlier writer with this fingerprint finished, where it was ended after giving the
  /// slab its name and before removing its journal; removes the journal.
  ///
  /// - Parameters:
  ///   - path: the output of both.
  ///   - profile: of the writer that would be made.
  ///   - fingerprint: as the writer would be given it.
  /// - Returns: nil wherever anything else is found. Then nothing is changed, and a writer will say what
  ///   is wrong.
  public static func finishedSlab(
    at path: String, profile: SlabProfile, fingerprint: Fingerprint
  ) -> Slab? {
    // The journal goes last: where it is and the partial file is not, that has become the slab.
    func hasPartial() -> Bool {
      let status = Result { () throws(FileError) in
        try SystemCalls.status(at: partialPath(of: path)) != nil
      }
      return (try? status.get()) ?? true
    }
    guard !hasPartial(), let slab = try? Slab(path: path),
      let journal = try? SlabJournal.read(target: path, end: slab.fileByteCount),
      complete(fingerprint, profile).difference(from: journal.fingerprint) == nil,
      // Neither an older slab nor one that somebody put there.
      journal.index.tensors.allSatisfy({ $0.isStored(like: slab.tensor(named: $0.name)) }),
      !hasPartial()
    else { return nil }
    SlabJournal.remove(target: path)
    return slab
  }

  /// Adds to a caller's fingerprint what a writer decides by itself.
  static func complete(_ given: Fingerprint, _ profile: SlabProfile) -> Fingerprint {
    let own = [("profile", profile.name), ("libzstd", Zstd.version)]
    return Fingerprint(given.components + own.map { Fingerprint.Component($0.0, $0.1) })
  }
}

extension SlabTensor {
  /// Whether the bytes of `other` are these, at the same place.
  fileprivate func isStored(like other: SlabTensor?) -> Bool {
    streams.map(\.bytes) == other?.streams.map(\.bytes)
  }
}
