internal import Synchronization

/// The file under construction beside a target: `TARGET.partial`, locked while it is written,
/// renamed when it is complete, removed when it is not; and its journal, if it has one, which the
/// same lock protects.
///
/// One thread may write the journal while another writes the file.
final class PartialFile: Sendable {
  let target: String
  let path: String
  private let replacing: Bool
  private let hasJournal: Bool
  private let state: Mutex<State>

  private struct State {
    var descriptor: Int32?
    var fate: Fate
  }

  private var descriptor: Int32? {
    get { state.withLock { $0.descriptor } }
    set { state.withLock { $0.descriptor = newValue } }
  }

  /// What becomes of the files where this run ends without a slab.
  var fate: Fate {
    get { state.withLock { $0.fate } }
    set { state.withLock { $0.fate = newValue } }
  }

  enum Fate {
    /// Nobody has looked yet at what an earlier run left: it stays, if there is anything.
    case unknown
    /// They go.
    case removed
    /// They stay for another run.
    case kept
  }

  /// Room that must stay free beyond what the output is expected to need.
  static let margin = 16 << 20

  /// Opens and locks the file. With a journal its content stays, for the caller to judge
  /// (``restart()`` or ``resume(at:)``); without one it is emptied.
  ///
  /// - Parameters:
  ///   - inputs: files that the output must not be, whatever names and links lead to them.
  init(
    target: String, replacing: Bool, inputs: [String], hasJournal: Bool
  ) throws(SlabError) {
    self.target = target
    self.replacing = replacing
    self.hasJournal = hasJournal
    state = Mutex(State(fate: hasJournal ? .unknown : .removed))
    path = SlabWriter.partialPath(of: target)
    let journals = [SlabJournal.path(of: target), SlabJournal.nextPath(of: target)]
    try calling { () throws(FileError) in try SystemCalls.checkName(ofOutput: target) }
    for output in [target, path] + (hasJournal ? journals : []) {
      try Self.check(output, isNoneOf: inputs)
    }
    let path = path
    try checkTarget()
    guard
      let descriptor = try calling({ () throws(FileError) in
        try SystemCalls.createExclusively(path, emptying: !hasJournal)
      })
    else { throw SlabError(.busy, path: path, "another process is writing this file") }
    self.descriptor = descriptor
  }

  deinit { close() }

  /// Bytes of the file.
  func byteCount() throws(SlabError) -> Int {
    let (descriptor, path) = (descriptor!, path)
    return try calling { () throws(FileError) in
      try SystemCalls.status(descriptor, path).byteCount
    }
  }

  /// Begins again: what is there goes away.
  func restart() throws(SlabError) {
    fate = .removed
    let (descriptor, path) = (descriptor!, path)
    // The journal first: without it, the file is worth nothing.
    if hasJournal { SlabJournal.remove(target: target) }
    try calling { () throws(FileError) in try SystemCalls.truncate(descriptor, to: 0, path) }
  }

  /// Goes on behind `end`: no byte of the superblock, and none behind, is left of what was written
  /// after the journal.
  func resume(at end: Int) throws(SlabError) {
    fate = .kept
    try write([UInt8](repeating: 0, count: min(end, SlabFormat.superblockByteCount)), at: 0)
    let (descriptor, path) = (descriptor!, path)
    try calling { () throws(FileError) in try SystemCalls.truncate(descriptor, to: end, path) }
  }

  /// Refuses a job that the disk has no room for.
  /// - Parameter byteCount: what is still to be written, as far as it is known.
  func checkSpace(for byteCount: Int) throws(SlabError) {
    let target = target
    let available = try calling { () throws(FileError) in
      try SystemCalls.freeBytes(in: SystemCalls.directory(of: target))
    }
    let (needed, overflow) = byteCount.addingReportingOverflow(Self.margin)
    guard !overflow, needed <= available else {
      throw Self.insufficientSpace(target, needed: overflow ? .max : needed, available: available)
    }
  }

  static func insufficientSpace(_ target: String, needed: Int, available: Int) -> SlabError {
    SlabError(
      .insufficientSpace(needed: needed, available: available), path: target,
      expected: "\(needed) bytes", found: "\(available) bytes", "not enough free disk space")
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(SlabError) {
    let (descriptor, path) = (descriptor!, path)
    try calling { () throws(FileError) in
      try SystemCalls.write(descriptor, bytes, at: offset, path)
    }
  }

  func write(_ bytes: [UInt8], at offset: Int) throws(SlabError) {
    try bytes.withUnsafeBufferPointer { buffer throws(SlabError) in
      try write(UnsafeRawBufferPointer(buffer), at: offset)
    }
  }

  /// Fills `buffer` from `offset` on.
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(SlabError) {
    let (descriptor, path) = (descriptor!, path)
    try calling { () throws(FileError) in
      try SystemCalls.read(descriptor, into: buffer, at: offset, path)
    }
  }

  /// Returns when everything written is on the disk.
  func synchronize() throws(SlabError) {
    let (descriptor, path) = (descriptor!, path)
    try calling { () throws(FileError) in try SystemCalls.synchronize(descriptor, path) }
  }

  /// Replaces the journal, once everything written so far is on the disk.
  func write(_ journal: SlabJournal) throws(SlabError) {
    try synchronize()
    let (next, final) = (SlabJournal.nextPath(of: target), SlabJournal.path(of: target))
    try calling { () throws(FileError) in
      guard let descriptor = try SystemCalls.createExclusively(next) else {
        throw FileError(path: next, reason: "another process is writing this file")
      }
      defer { SystemCalls.close(descriptor) }
      do throws(FileError) {
        var hasher = Hasher256()
        var end = 0
        for part in [journal.head(), journal.payload] {
          try part.withUnsafeBufferPointer { buffer throws(FileError) in
            let bytes = UnsafeRawBufferPointer(buffer)
            hasher.update(bytes)
            try SystemCalls.write(descriptor, bytes, at: end, next)
            end += bytes.count
          }
        }
        try hasher.finish().bytes.withUnsafeBufferPointer { buffer throws(FileError) in
          try SystemCalls.write(descriptor, UnsafeRawBufferPointer(buffer), at: end, next)
        }
        try SystemCalls.synchronize(descriptor, next)
        try SystemCalls.rename(next, to: final)
      } catch {
        SystemCalls.remove(next)
        throw error
      }
    }
  }

  /// Gives the complete file the name of the target, and the permissions of a file that it replaces.
  func publish() throws(SlabError) {
    try checkTarget()  // it may have come into being meanwhile
    let (path, target) = (path, target)
    SystemCalls.copyPermissions(of: target, to: descriptor!)
    try calling { () throws(FileError) in try SystemCalls.rename(path, to: target) }
    if hasJournal { SlabJournal.remove(target: target) }
    SystemCalls.close(descriptor!)
    descriptor = nil
  }

  /// Ends without a slab. Removes what was written unless it is kept.
  func close() {
    guard let descriptor else { return }
    // Before the lock goes with the descriptor.
    switch fate {
    case .removed:
      if hasJournal { SlabJournal.remove(target: target) }
      SystemCalls.remove(path)
    case .unknown:
      if (try? byteCount()) == 0 { SystemCalls.remove(path) }
    case .kept: break
    }
    SystemCalls.close(descriptor)
    self.descriptor = nil
  }

  private func checkTarget() throws(SlabError) {
    try Self.checkTarget(target, replacing: replacing)
  }

  private static func checkTarget(_ target: String, replacing: Bool) throws(SlabError) {
    guard
      let existing = try calling({ () throws(FileError) in try SystemCalls.status(at: target) })
    else { return }
    guard existing.isRegular else {
      throw SlabError(.invalidInput, path: target, "the output is there and is no regular file")
    }
    guard replacing else { throw SlabError(.outputExists, path: target, "the output exists") }
  }

  /// Refuses, before anything is created, what the initializer would refuse.
  static func check(target: String, replacing: Bool, inputs: [String]) throws(SlabError) {
    try calling { () throws(FileError) in try SystemCalls.checkName(ofOutput: target) }
    try check(target, isNoneOf: inputs)
    try checkTarget(target, replacing: replacing)
  }

  private static func check(_ output: String, isNoneOf inputs: [String]) throws(SlabError) {
    let input = try calling { () throws(FileError) in
      try SystemCalls.input(thatIs: output, among: inputs)
    }
    if let input {
      throw SlabError(.outputIsInput, path: output, "the output is the input \(input)")
    }
  }
}

/// Calls the system, turning its refusals into the errors of slabs.
private func calling<R>(_ body: () throws(FileError) -> R) throws(SlabError) -> R {
  do throws(FileError) {
    return try body()
  } catch {
    throw SlabError(error)
  }
}
