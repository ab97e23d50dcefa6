public import TensorCore

/// What is wrong with the file of a slab, and how it becomes what it was, byte for byte.
///
/// Padding and superblock follow from the index, if its digest is left; everything else comes from good
/// copies of the same model, of either profile. The repaired file is written beside the broken one and renamed over it, only
/// if nothing is missing: however the process ends, one of the two is there.
public struct SlabRepair: Sendable {
  /// A part of the file that is not what it must be.
  public struct Fault: Sendable {
    public enum Kind: String, Sendable {
      case superblock
      case index
      case padding
      case asset
      case tensor
      /// Bytes behind the index.
      case end
      /// Neither superblock nor index is left, and nobody knows what is where.
      case everything
    }

    public let kind: Kind
    public let byteRange: Range<Int>
    /// Of the tensor or asset.
    public var name: String?
    public var stream: StreamKind?
    /// Index of the frame within the stream or asset.
    public var frame: Int?
    /// Whether the repair has what belongs there.
    public let isRepairable: Bool
  }

  public let path: String
  /// In the order of the file.
  public private(set) var faults: [Fault] = []
  /// What the model is; nil if that cannot be known.
  public let rootDigest: Digest?
  /// The length of the file when it is whole; nil if that cannot be known.
  public let byteCount: Int?
  private let file: SlabFile
  private let parts: SlabParts?
  /// Whether a digest or a good copy vouches for the index.
  private let isProven: Bool
  private let donors: [SlabDonor]

  /// The ranges of bytes that have to be fetched again, in order and apart.
  public var missingRanges: [Range<Int>] {
    faults.lazy.filter { !$0.isRepairable }.map(\.byteRange).reduce(into: []) { ranges, range in
      if let last = ranges.last, range.lowerBound <= last.upperBound {
        ranges[ranges.count - 1] =
          last.lowerBound..<max(last.upperBound, range.upperBound)
      } else {
        ranges.append(range)
      }
    }
  }

  /// Whether there may be faults that only the index can tell, which is lost or may be damaged.
  public var isIncomplete: Bool { !isProven }

  /// Looks for everything that is wrong; changes nothing.
  ///
  /// - Parameters:
  ///   - donors: paths of good copies. They may be damaged, elsewhere.
  ///   - progress: called with the bytes looked at so far and those of the file.
  ///   - isCancelled: asked now and then; once true, ``SlabError/Reason/cancelled`` is thrown.
  /// - Throws: ``SlabError`` if a file cannot be read, a copy is another model or has no index, or the
  ///   file is no slab that this program knows.
  public init(
    path: String, donors: [String], pool: WorkerPool,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in },
    isCancelled: () -> Bool = { false }
  ) throws(SlabError) {
    // A link is not replaced by a file.
    self.path = SystemCalls.resolved(path) ?? path
    file = try SlabFile(path: path)
    let finding = try SlabFinding(file)
    self.donors = try donors.map { path throws(SlabError) in try SlabDonor(path: path) }
    let stated = finding.parts?.index.rootDigest ?? finding.superblock?.rootDigest
    for donor in self.donors {
      let root = donor.parts.index.rootDigest
      guard root == stated ?? root else {
        throw SlabError(
          .invalidInput, path: donor.file.path, expected: "root \(stated!)", found: "\(root)",
          "this is another model than \(path)")
      }
    }
    let proven =
      finding.parts ?? Self.parts(finding, of: file, from: self.donors, pool: pool)
    isProven = proven != nil
    rootDigest = stated ?? proven?.index.rootDigest
    parts = proven ?? finding.unproven
    byteCount = parts?.byteCount ?? finding.superblock?.indexRange.upperBound
    guard let parts else {
      faults = Self.faults(finding, of: file)
      return
    }
    try survey(parts, pool: pool, progress: progress, isCancelled: isCancelled)
    if file.status.byteCount > parts.byteCount {
      faults.append(
        Fault(
          kind: .end, byteRange: parts.byteCount..<file.status.byteCount, isRepairable: true))
    }
  }

  /// What is known to be wrong where the index is lost.
  private static func faults(_ finding: SlabFinding, of file: SlabFile) -> [Fault] {
    let byteCount = file.status.byteCount
    guard let range = finding.superblock?.indexRange else {
      return [Fault(kind: .everything, byteRange: 0..<byteCount, isRepairable: false)]
    }
    let start = min(range.lowerBound, max(byteCount, SlabFormat.superblockByteCount))
    return [Fault(kind: .index, byteRange: start..<range.upperBound, isRepairable: false)]
  }

  /// What the file must hold, as good copies know it.
  private static func parts(
    _ finding: SlabFinding, of file: SlabFile, from donors: [SlabDonor], pool: WorkerPool
  ) -> SlabParts? {
    if let bytes = finding.superblockBytes {
      if let donor = donors.first(where: { $0.parts.superblock == bytes }) { return donor.parts }
      return donors.lazy.compactMap { try? $0.repackedParts(pool: pool) }
        .first { $0.superblock == bytes }
    }
    // No superblock: the index that was found, or the rest of the file, can say that this is the model.
    for donor in donors where file.isThat(of: donor.parts, finding) { return donor.parts }
    return donors.lazy.compactMap { try? $0.repackedParts(pool: pool) }
      .first { file.isThat(of: $0, finding) }
  }

  private mutating func survey(
    _ parts: SlabParts, pool: WorkerPool, progress: (_ done: Int, _ total: Int) -> Void,
    isCancelled: () -> Bool
  ) throws(SlabError) {
    for run in Self.runs(parts.parts, pool: pool) {
      if isCancelled() { throw cancelled }
      faults += Self.map(run, pool: pool) { part -> Fault? in
        guard file.intactBytes(of: part, in: parts) == nil else { return nil }
        return Fault(part, isRepairable: restored(part, parts) != nil)
      }.compactMap { $0 }
      progress(run.last!.range.upperBound, parts.byteCount)
    }
  }

  /// Writes the repaired file beside the broken one and gives it its name.
  ///
  /// Everything is checked once more as it is copied.
  /// - Precondition: there are no ``missingRanges``.
  /// - Throws: ``SlabError`` if there is no room, something cannot be read or written, or changed since
  ///   it was looked at. The broken file is then as it was.
  public func run(
    pool: WorkerPool, progress: (_ done: Int, _ total: Int) -> Void = { _, _ in },
    isCancelled: () -> Bool = { false }
  ) throws(SlabError) {
    precondition(missingRanges.isEmpty)
    let parts = parts!
    let output = try PartialFile(
      target: path, replacing: true, inputs: donors.map(\.file.path), hasJournal: false)
    do throws(SlabError) {
      try output.checkSpace(for: parts.byteCount)
      for run in Self.runs(parts.parts, pool: pool) {
        if isCancelled() { throw cancelled }
        let bytes = Self.map(run, pool: pool) {
          file.intactBytes(of: $0, in: parts) ?? restored($0, parts)
        }
        for (part, bytes) in zip(run, bytes) {
          guard let bytes else {
            throw SlabError(
              .damaged, path: path, byteRange: part.range, "it changed while it was repaired")
          }
          switch part.content {
          case .superblock, .padding: break  // last; zero where nothing is written
          case .index, .frame: try output.write(bytes, at: part.range.lowerBound)
          }
        }
        progress(run.last!.range.upperBound, parts.byteCount)
      }
      try output.synchronize()
      try output.write(parts.superblock, at: 0)
      try output.synchronize()
      try output.publish()
    } catch {
      output.close()
      throw error
    }
  }

  /// What belongs where a part is damaged; nil if nobody has it.
  private func restored(_ part: SlabParts.Part, _ parts: SlabParts) -> [UInt8]? {
    switch part.content {
    case .superblock: isProven ? parts.superblock : nil
    case .index: parts.indexBytes
    case .padding: [UInt8](repeating: 0, count: part.range.count)
    case .frame(let frame): donors.lazy.compactMap { $0.storedBytes(of: frame) }.first
    }
  }

  private var cancelled: SlabError {
    SlabError(.cancelled, path: path, "cancelled; nothing was changed")
  }

  /// Consecutive parts, few enough to hold them all in memory.
  private static func runs(
    _ parts: [SlabParts.Part], pool: WorkerPool
  ) -> [ArraySlice<SlabParts.Part>] {
    stride(from: 0, to: parts.count, by: 16 * pool.threadCount).map {
      parts[$0..<min($0 + 16 * pool.threadCount, parts.count)]
    }
  }

  private static func map<Result>(
    _ parts: ArraySlice<SlabParts.Part>, pool: WorkerPool, _ body: (SlabParts.Part) -> Result
  ) -> [Result] {
    [Result](unsafeUninitializedCapacity: parts.count) { results, count in
      // Each index writes its own element only.
      nonisolated(unsafe) let results = results
      pool.parallelFor(parts.count) {
        results.initializeElement(at: $0, to: body(parts[parts.startIndex + $0]))
      }
      count = parts.count
    }
  }
}

extension SlabRepair.Fault {
  fileprivate init(_ part: SlabParts.Part, isRepairable: Bool) {
    byteRange = part.range
    self.isRepairable = isRepairable
    switch part.content {
    case .superblock: kind = .superblock
    case .padding: kind = .padding
    case .index: kind = .index
    case .frame(let part):
      kind = part.stream == nil ? .asset : .tensor
      (name, stream, frame) = (part.name, part.stream, part.index)
    }
  }
}

extension SlabFile {
  /// Whether this is the file that has these parts: by the same index, or half of the frames' bytes.
  fileprivate func isThat(of parts: SlabParts, _ finding: SlabFinding) -> Bool {
    if finding.unproven?.indexBytes == parts.indexBytes { return true }
    var (intact, total) = (0, 0)
    for part in parts.parts {
      guard case .frame = part.content else { continue }
      total += part.range.count
      if intactBytes(of: part, in: parts) != nil { intact += part.range.count }
    }
    return intact * 2 >= total
  }
}
